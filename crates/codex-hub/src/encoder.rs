//! Encoders of the family of BERT, as transformers and sentence-transformers keep them, as a network's configuration and weights.
//!
//! Names are read with and without the prefix `bert.` and in the spelling of 2018, in which the weight and bias of a norm are `gamma` and `beta`.
//! As in [`import`](crate::import) every name and shape is compared with the configuration before a number is read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use codex_core::{HostTensor, TensorMap};
use codex_model::{EncoderConfig, Pooling, encoder};

use crate::element::ElementType;
use crate::error::HubError;
use crate::fields::{Fields, read_object};
use crate::import::CONFIG_FILE;
use crate::tensor_folder::{TensorFolder, is_buffer};

mod config;
mod sentence;

/// What stands before the names of a network that has a head.
const PREFIX: &str = "bert.";
/// What stands before the names of heads.
const HEADS: &str = "cls.";
/// The table of tokens.
const TABLE: &str = "embeddings.word_embeddings.weight";

/// An encoder that was read.
#[derive(Debug)]
pub struct ImportedEncoder {
    /// Its shape.
    pub config: EncoderConfig,
    /// Its weights by our paths.
    pub weights: TensorMap,
    /// What the numbers of its files are; the widest of them where they differ.
    pub element: ElementType,
    /// How sentence-transformers pools; the mean where it says nothing.
    pub pooling: Pooling,
    /// Whether it divides a vector by its length.
    pub normalize: bool,
    /// Most tokens of one text, special ones among them.
    pub max_tokens: usize,
    /// The folder with the tokenizer.
    pub folder: PathBuf,
    /// Tensors that fit and have no use here: what classifies pairs of texts.
    pub left_out: Vec<String>,
}

/// Whether a folder holds an encoder that [`import_encoder`] reads; a folder that cannot be read holds none.
pub fn is_encoder_folder(folder: &Path) -> bool {
    let Ok(sentence) = sentence::read(folder) else { return false };
    let path = sentence.encoder.join(CONFIG_FILE);
    read_object(&path, "model configuration")
        .is_ok_and(|map| Fields::new(&path, &map).text("model_type").is_ok_and(|found| found == Some(config::MODEL_TYPE)))
}

/// Reads an encoder's folder.
///
/// # Errors
/// A configuration that asks for what the network has not; a tensor that is missing, left over or of a wrong shape, each named with both shapes;
/// modules behind the encoder that are not pooling or normalisation; a damaged file; a pickle.
pub fn import_encoder(folder: &Path) -> Result<ImportedEncoder, HubError> {
    let sentence = sentence::read(folder)?;
    let folder = sentence.encoder.as_path();
    let path = folder.join(CONFIG_FILE);
    let map = read_object(&path, "model configuration")?;
    let mut config = config::parse(&map, &path)?;
    if let Some((file, width)) = sentence.width.filter(|(_, width)| *width != config.d_model) {
        return Err(HubError::malformed(
            &file,
            "word_embedding_dimension",
            format!("the encoder's width {}", config.d_model),
            width.to_string(),
        ));
    }
    let files = TensorFolder::open(folder)?;
    let names = Names::of(folder, &files)?;
    config.masked_lm_head = names.spelled.keys().any(|name| name.starts_with("cls.predictions."));
    if config.masked_lm_head {
        config::check_head(&map, &path)?;
    }
    let all = weights(&config);
    let left_out = names.check(folder, &files, &config, &all)?;
    let mut tensors = TensorMap::new();
    for (path, shape) in encoder::shapes(&config) {
        let zeros = vec![0.0; shape.iter().product()];
        tensors.extend(HostTensor::new(shape, zeros).map(|tensor| (path, tensor)));
    }
    let mut element = ElementType::Bf16;
    for weight in &all {
        let name = names.of_file(&weight.name);
        let values = files.read(name)?;
        if let Some(found) = files.element(name).filter(|found| found.size() >= element.size()) {
            element = found;
        }
        if !tensors.get_mut(&weight.path).is_some_and(|parameter| weight.place(&values, parameter)) {
            return Err(HubError::Tensors { folder: folder.to_owned(), problems: vec![format!("tensor `{name}` has no place")] });
        }
    }
    if let Some((path, _)) = tensors.iter().find(|(_, tensor)| !tensor.is_finite()) {
        let problems = vec![format!("`{path}` holds a number that is not finite")];
        return Err(HubError::Tensors { folder: folder.to_owned(), problems });
    }
    let max_tokens = sentence.max_tokens.unwrap_or(usize::MAX).min(config.max_positions);
    Ok(ImportedEncoder {
        config,
        weights: tensors,
        element,
        pooling: sentence.pooling.unwrap_or_default(),
        normalize: sentence.normalize,
        max_tokens,
        folder: folder.to_owned(),
        left_out,
    })
}

/// The tensors of a folder by the names that transformers gives them, without the prefix.
struct Names {
    prefix: &'static str,
    /// From a name as this module has it to that of the file.
    spelled: BTreeMap<String, String>,
}

impl Names {
    fn of(folder: &Path, files: &TensorFolder) -> Result<Self, HubError> {
        let prefix = if files.names().any(|name| name.starts_with(PREFIX)) { PREFIX } else { "" };
        let mut spelled = BTreeMap::new();
        let mut problems = Vec::new();
        for name in files.names().filter(|name| !is_buffer(name)) {
            let bare = match name.strip_prefix(prefix) {
                Some(bare) => bare.to_owned(),
                None if name.starts_with(HEADS) => name.to_owned(),
                // It gets a name that nothing has, and is told with what is left over.
                None => format!("/{name}"),
            };
            let today = bare.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
            if let Some(other) = spelled.insert(today, name.to_owned()) {
                problems.push(format!("tensors `{other}` and `{name}` are one weight in two spellings"));
            }
        }
        if problems.is_empty() { Ok(Self { prefix, spelled }) } else { Err(HubError::Tensors { folder: folder.to_owned(), problems }) }
    }

    /// The name in the file; where there is none, the name it would have.
    fn of_file<'a>(&'a self, name: &'a str) -> &'a str {
        // Some programs keep the head's bias only beside the table that they write out.
        let other = if name == "cls.predictions.bias" { "cls.predictions.decoder.bias" } else { name };
        self.spelled.get(name).or_else(|| self.spelled.get(other)).map_or(name, String::as_str)
    }

    /// Tells all that does not fit at once; gives what fits and is not needed.
    fn check(&self, folder: &Path, files: &TensorFolder, config: &EncoderConfig, all: &[Weight]) -> Result<Vec<String>, HubError> {
        let mut problems = Vec::new();
        let mut known: BTreeMap<&str, Vec<usize>> = all.iter().map(|weight| (weight.name.as_str(), weight.dims())).collect();
        for (name, shape) in &known {
            let of_file = self.of_file(name);
            match files.shape(of_file) {
                None if name.starts_with(HEADS) => problems.push(format!("tensor `{name}` of shape {shape:?} is missing")),
                None => problems.push(format!("tensor `{}{name}` of shape {shape:?} is missing", self.prefix)),
                Some(found) if found != shape.as_slice() => {
                    problems.push(format!("tensor `{of_file}` has shape {found:?}, expected {shape:?}"));
                }
                Some(_) => {}
            }
        }
        let (d, vocab_size) = (config.d_model, config.vocab_size);
        let not_needed = [
            ("pooler.dense.weight", vec![d, d]),
            ("pooler.dense.bias", vec![d]),
            ("cls.seq_relationship.weight", vec![2, d]),
            ("cls.seq_relationship.bias", vec![2]),
            ("cls.predictions.decoder.weight", vec![vocab_size, d]),
            ("cls.predictions.decoder.bias", vec![vocab_size]),
        ];
        let mut left_out = Vec::new();
        for (name, shape) in not_needed {
            let Some(of_file) = self.spelled.get(name) else { continue };
            match files.shape(of_file) {
                Some(found) if found != shape.as_slice() => {
                    problems.push(format!("tensor `{of_file}` has shape {found:?}, expected {shape:?}"));
                }
                _ => left_out.push(of_file.clone()),
            }
            known.insert(name, shape);
        }
        let left_over = self.spelled.iter().filter(|(name, _)| !known.contains_key(name.as_str()));
        problems.extend(
            left_over.map(|(_, name)| format!("tensor `{name}` of shape {:?} belongs to nothing", files.shape(name).unwrap_or_default())),
        );
        if problems.is_empty() {
            // A tied head is written out by some programs.
            for (copy, of) in [("cls.predictions.decoder.weight", TABLE), ("cls.predictions.decoder.bias", "cls.predictions.bias")] {
                let Some(copy) = self.spelled.get(copy) else { continue };
                if files.read(copy)? != files.read(self.of_file(of))? {
                    problems.push(format!("tensor `{copy}` is not equal to `{}`, and the head has no other", self.of_file(of)));
                }
                left_out.retain(|name| name != copy);
            }
        }
        if problems.is_empty() { Ok(left_out) } else { Err(HubError::Tensors { folder: folder.to_owned(), problems }) }
    }
}

/// One weight of a folder, and where it goes.
struct Weight {
    /// Its name today, without the prefix.
    name: String,
    /// The parameter that it is, or is a part of.
    path: String,
    /// The columns of the parameter that it is.
    columns: Range<usize>,
    /// What its columns are of.
    rows: Rows,
}

/// What the rows of a parameter are.
#[derive(Clone, Copy)]
enum Rows {
    /// There is one: a vector.
    One,
    /// Those of a table, which lies the same way round everywhere.
    Table(usize),
    /// The inputs of a layer, which torch has as columns.
    Inputs(usize),
}

impl Weight {
    /// Its shape in the file.
    fn dims(&self) -> Vec<usize> {
        match self.rows {
            Rows::One => vec![self.columns.len()],
            Rows::Table(rows) => vec![rows, self.columns.len()],
            Rows::Inputs(inputs) => vec![self.columns.len(), inputs],
        }
    }

    /// Puts its numbers into the parameter; `false` where they do not fit.
    fn place(&self, values: &[f32], parameter: &mut HostTensor) -> bool {
        let (rows, n) = match self.rows {
            Rows::One => (1, self.columns.len()),
            Rows::Table(rows) | Rows::Inputs(rows) => (rows, self.columns.len()),
        };
        let width = parameter.shape.last().copied().unwrap_or(0);
        if values.len() != rows * n || parameter.values.len() != rows * width || self.columns.end > width {
            return false;
        }
        let is_turned = matches!(self.rows, Rows::Inputs(_));
        let target: &mut [f32] = &mut parameter.values;
        for (row, line) in target.chunks_exact_mut(width).enumerate() {
            for (column, value) in line[self.columns.clone()].iter_mut().enumerate() {
                *value = values[if is_turned { column * rows + row } else { row * n + column }];
            }
        }
        true
    }
}

/// All weights that an encoder needs.
fn weights(config: &EncoderConfig) -> Vec<Weight> {
    let (d, inner) = (config.d_model, config.d_feed_forward);
    let mut all = Vec::new();
    let mut add = |name: String, path: String, columns: Range<usize>, rows: Rows| all.push(Weight { name, path, columns, rows });
    for (name, path, rows) in [
        (TABLE, "embedding", config.vocab_size),
        ("embeddings.position_embeddings.weight", "positions", config.max_positions),
        ("embeddings.token_type_embeddings.weight", "token_types", config.n_token_types),
    ] {
        add(name.to_owned(), path.to_owned(), 0..d, Rows::Table(rows));
    }
    let mut linear = |name: &str, path: &str, inputs: Option<usize>, columns: Range<usize>| {
        add(format!("{name}.weight"), format!("{path}.weight"), columns.clone(), inputs.map_or(Rows::One, Rows::Inputs));
        add(format!("{name}.bias"), format!("{path}.bias"), columns, Rows::One);
    };
    linear("embeddings.LayerNorm", "embedding_norm", None, 0..d);
    for i in 0..config.n_layers {
        let (layer, block) = (format!("encoder.layer.{i}"), format!("blocks.{i}"));
        for (part, name) in ["query", "key", "value"].into_iter().enumerate() {
            let columns = part * d..(part + 1) * d;
            linear(&format!("{layer}.attention.self.{name}"), &format!("{block}.attention.qkv"), Some(d), columns);
        }
        linear(&format!("{layer}.attention.output.dense"), &format!("{block}.attention.output"), Some(d), 0..d);
        linear(&format!("{layer}.attention.output.LayerNorm"), &format!("{block}.attention_norm"), None, 0..d);
        linear(&format!("{layer}.intermediate.dense"), &format!("{block}.feed_forward.up"), Some(d), 0..inner);
        linear(&format!("{layer}.output.dense"), &format!("{block}.feed_forward.down"), Some(inner), 0..d);
        linear(&format!("{layer}.output.LayerNorm"), &format!("{block}.feed_forward_norm"), None, 0..d);
    }
    if config.masked_lm_head {
        linear("cls.predictions.transform.dense", "head.dense", Some(d), 0..d);
        linear("cls.predictions.transform.LayerNorm", "head.norm", None, 0..d);
        add("cls.predictions.bias".to_owned(), "head.bias".to_owned(), 0..config.vocab_size, Rows::One);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_model::Activation;

    #[test]
    fn the_weights_fill_every_parameter_once() {
        let config = EncoderConfig {
            vocab_size: 11,
            d_model: 8,
            n_layers: 2,
            n_heads: 2,
            d_feed_forward: 12,
            max_positions: 5,
            n_token_types: 2,
            norm_epsilon: 1e-12,
            activation: Activation::Gelu,
            masked_lm_head: true,
        };
        let mut tensors: TensorMap = encoder::shapes(&config)
            .into_iter()
            .map(|(path, shape)| {
                let zeros = vec![0.0; shape.iter().product()];
                (path, HostTensor::new(shape, zeros).unwrap())
            })
            .collect();
        for weight in weights(&config) {
            let ones = vec![1.0; weight.dims().iter().product()];
            let parameter = tensors.get_mut(&weight.path).unwrap();
            let before: f32 = parameter.values.iter().sum();
            assert!(weight.place(&ones, parameter), "{}", weight.name);
            let added = parameter.values.iter().sum::<f32>() - before;
            assert!((added - ones.len() as f32).abs() < 0.5, "{} overlaps another", weight.name);
            assert!(!weight.place(&ones[1..], parameter), "a number is missing");
        }
        assert!(tensors.values().all(|tensor| tensor.values.iter().all(|&value| value > 0.5)));
    }

    #[test]
    fn a_layer_is_turned_and_a_table_is_not() {
        let matrix = Weight { name: String::new(), path: String::new(), columns: 1..3, rows: Rows::Inputs(2) };
        let mut parameter = HostTensor::new(vec![2, 3], vec![0.0; 6]).unwrap();
        assert!(matrix.place(&[1.0, 2.0, 3.0, 4.0], &mut parameter));
        assert_eq!(parameter.values[..], [0.0, 1.0, 3.0, 0.0, 2.0, 4.0]);
        let table = Weight { rows: Rows::Table(2), columns: 0..3, ..matrix };
        assert!(table.place(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut parameter));
        assert_eq!(parameter.values[..], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
