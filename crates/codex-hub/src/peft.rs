//! Adapters in the files of the peft package: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! What an adapter is on is read from the names of its tensors, so every way in which peft may have chosen its layers is understood.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use codex_core::{FolderDraft, HostTensor, TensorMap};
use codex_model::adapter::sites;
use codex_model::{AdapterConfig, AdapterKind, AdapterPlan, ModelConfig, Site, parameters};
use serde_json::{Map, Value, json};

use crate::element::ElementType;
use crate::error::HubError;
use crate::family::Family;
use crate::fields::{Fields, read_object};
use crate::parts::{Part, Role, parts};
use crate::tensor_folder::TensorFolder;
use crate::tensor_writer::{self, Pending};

/// The file that describes an adapter.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";
/// The file of its tensors.
const ADAPTER_FILE: &str = "adapter_model.safetensors";
/// What stands before the name of every module.
const PREFIX: &str = "base_model.model.";
/// The key in which we write the digest of the base's weights; peft passes over it.
const DIGEST_KEY: &str = "codex_base_digest";
/// Ways to begin training that change the base's weights, which a file of adapters does not hold.
const CHANGES_BASE: [&str; 5] = ["pissa", "olora", "loftq", "corda", "eva"];

/// An adapter that was read.
#[derive(Clone, Debug)]
pub struct PeftAdapter {
    /// Its configuration.
    pub adapter: AdapterConfig,
    /// Its matrices, and what was trained besides, by our paths.
    pub weights: TensorMap,
    /// What its files call the base.
    pub base_name: Option<String>,
    /// The digest of the base's weights, where a file of ours says so.
    pub base_digest: Option<String>,
}

/// Whether a folder looks like an adapter of peft.
pub fn is_adapter_folder(path: &Path) -> bool {
    path.join(ADAPTER_CONFIG_FILE).is_file()
}

/// What the files of an adapter call its base, before anything else of them is read.
pub fn base_name(folder: &Path) -> Result<Option<String>, HubError> {
    let path = folder.join(ADAPTER_CONFIG_FILE);
    let map = read_object(&path, "configuration of an adapter")?;
    Ok(Fields::new(&path, &map).text("base_model_name_or_path")?.map(str::to_owned))
}

/// Reads an adapter for a base of this shape.
///
/// # Errors
/// Another kind of adapter than LoRA; tensors for layers that the base has not, or of other shapes, or with nothing to add; a damaged file.
pub fn read_adapter(folder: &Path, config: &ModelConfig, vocab_size: usize) -> Result<PeftAdapter, HubError> {
    let path = folder.join(ADAPTER_CONFIG_FILE);
    let map = read_object(&path, "configuration of an adapter")?;
    let fields = Fields::new(&path, &map);
    let scales = Scales::read(fields)?;
    let family = Family::of(config).map_err(|reason| HubError::NotRepresentable { format: "PEFT", reason })?;
    let tensors = folder.join(ADAPTER_FILE);
    let pickle = folder.join("adapter_model.bin");
    if !tensors.exists() && pickle.exists() {
        return Err(HubError::Pickle { path: pickle });
    }
    let files = TensorFolder::of_files(vec![tensors.clone()])?;
    let found = matched(&tensors, &files, (config, vocab_size), family, scales.has_magnitude)?;

    let mut adapter = AdapterConfig {
        kind: if scales.has_magnitude { AdapterKind::Dora } else { AdapterKind::Lora },
        target_modules: Vec::new(),
        rank_stabilized: scales.rank_stabilized,
        ..AdapterConfig::default()
    };
    adapter.dropout = fields.number("lora_dropout")?.unwrap_or(0.0);
    adapter.rank = scales.rank;
    adapter.alpha = scales.alpha;
    for (site, module) in &found.sites {
        let name = format!("{}.{}", parent(&site.layer), site.name);
        let rank = files.shape(&lora_name(module, "A")).and_then(|shape| shape.first().copied()).unwrap_or(0);
        let alpha = scales.alpha_of(fields, module)?;
        if rank != scales.rank {
            adapter.rank_pattern.insert(name.clone(), rank);
        }
        if alpha.to_bits() != scales.alpha.to_bits() {
            adapter.alpha_pattern.insert(name.clone(), alpha);
        }
        adapter.target_modules.push(name);
    }
    adapter.also_train = found.groups.iter().map(|group| (*group).to_owned()).collect();
    let refused = |source| HubError::Model { path: path.clone(), source };
    if let Some((key, message)) = adapter.problems().into_iter().next() {
        return Err(HubError::malformed(&path, &key, "a configuration that can be used", message));
    }
    let mut weights = TensorMap::new();
    for plan in adapter.adapters(config).map_err(refused)? {
        let module = found.sites.iter().find(|(site, _)| *site == plan.site).map(|(_, module)| module.as_str()).unwrap_or_default();
        for ((path, shape), name) in plan.shapes().into_iter().zip(tensor_names(module)) {
            let values = files.read(&name)?;
            let values = if shape.len() == 2 { transposed(&values, shape[0]) } else { values };
            weights.extend(HostTensor::new(shape, values).map(|tensor| (path, tensor)));
        }
    }
    for (part, name) in &found.others {
        let shapes = parameters::shapes(config, vocab_size);
        let Some(shape) = shapes.get(&part.path) else { continue };
        let zeros = HostTensor::new(shape.clone(), vec![0.0; shape.iter().product()]);
        let Some(mut tensor) = zeros else { continue };
        if part.place(&files.read(name)?, part.hf_layout(family), &mut tensor) {
            weights.insert(part.path.clone(), tensor);
        }
    }
    check_values(&tensors, &adapter, &weights)?;
    let text = |key: &str| fields.text(key).map(|text| text.map(str::to_owned));
    Ok(PeftAdapter { base_name: text("base_model_name_or_path")?, base_digest: text(DIGEST_KEY)?, adapter, weights })
}

/// Numbers that are not finite, and adapters that add nothing.
fn check_values(path: &Path, adapter: &AdapterConfig, weights: &TensorMap) -> Result<(), HubError> {
    if let Some((name, _)) = weights.iter().find(|(_, tensor)| !tensor.is_finite()) {
        return Err(HubError::tensor_file(path, format!("`{name}` holds a number that is not finite")));
    }
    let is_zero = |tensor: &HostTensor| tensor.values.iter().all(|value| *value == 0.0);
    let second = weights.iter().filter(|(name, _)| name.contains(".adapters.") && name.rsplit('.').next() == Some("b"));
    if adapter.kind == AdapterKind::Lora && adapter.also_train.is_empty() && second.into_iter().all(|(_, tensor)| is_zero(tensor)) {
        return Err(HubError::tensor_file(path, "every second matrix of its adapters is zero, so it changes nothing: it was not trained"));
    }
    Ok(())
}

/// What the tensors of an adapter are for.
struct Matched {
    /// Layers with an adapter, and the modules they are in the files.
    sites: Vec<(Site, String)>,
    /// Weights that were trained as they are, with their names in the files.
    others: Vec<(Part, String)>,
    /// The groups that those make up.
    groups: BTreeSet<&'static str>,
}

fn matched(
    path: &Path,
    files: &TensorFolder,
    (config, vocab_size): (&ModelConfig, usize),
    family: Family,
    has_magnitude: bool,
) -> Result<Matched, HubError> {
    let all = parts(family, config, vocab_size);
    let mut problems = Vec::new();
    let mut left: BTreeSet<&str> = files.names().collect();
    let mut sites_found = Vec::new();
    for (site, module) in sites(config).into_iter().filter_map(|site| Some((site.clone(), module_of(&site, &all, family)?))) {
        let (a, b) = (lora_name(&module, "A"), lora_name(&module, "B"));
        if !left.contains(a.as_str()) && !left.contains(b.as_str()) {
            continue;
        }
        left.remove(a.as_str());
        left.remove(b.as_str());
        let (found_a, found_b) = (files.shape(&a).unwrap_or_default(), files.shape(&b).unwrap_or_default());
        let (inputs, outputs) = (site.inputs, site.columns.len());
        if has_magnitude {
            let name = magnitude_name(&module);
            left.remove(name.as_str());
            match files.shape(&name) {
                // Of a layer of GPT-2 it is a row.
                Some([n] | [1, n]) if *n == outputs => {}
                found => problems.push(format!("`{name}` has {:?}, expected [{outputs}]", found.unwrap_or_default())),
            }
        }
        match (found_a, found_b) {
            ([rank, n], [m, other]) if rank == other && *n == inputs && *m == outputs && *rank > 0 => sites_found.push((site, module)),
            _ => problems.push(format!("`{module}` has {found_a:?} and {found_b:?}, expected [rank, {inputs}] and [{outputs}, rank]")),
        }
    }
    let mut others = Vec::new();
    let mut groups = BTreeSet::new();
    for part in &all {
        let name = format!("{PREFIX}{}", part.hf_name(family));
        let Some(group) = group_of(part.role).filter(|_| left.contains(name.as_str())) else { continue };
        left.remove(name.as_str());
        let (found, expected) = (files.shape(&name).unwrap_or_default(), part.dims(part.hf_layout(family)));
        if found != expected {
            problems.push(format!("tensor `{name}` has shape {found:?}, expected {expected:?}"));
        }
        groups.insert(group);
        others.push((part.clone(), name));
    }
    // A tied head that was trained is the embedding.
    for part in all.iter().filter(|part| group_of(part.role).is_some_and(|group| groups.contains(group))) {
        if !others.iter().any(|(other, _)| other == part) {
            problems.push(format!("`{}` was not trained, and others of its kind were; here all are or none", part.hf_name(family)));
        }
    }
    let left_over =
        |name: &&str| format!("tensor `{name}` of shape {:?} belongs to nothing in the base", files.shape(name).unwrap_or_default());
    problems.extend(left.iter().map(left_over));
    if problems.is_empty() && sites_found.is_empty() {
        problems.push("there is no adapter of any layer of the base".to_owned());
    }
    if problems.is_empty() {
        Ok(Matched { sites: sites_found, others, groups })
    } else {
        Err(HubError::Tensors { folder: path.to_owned(), problems })
    }
}

/// The word by which what is trained besides adapters is chosen.
fn group_of(role: Role) -> Option<&'static str> {
    match role {
        Role::Embedding | Role::Positions => Some("embedding"),
        Role::Head => Some("head"),
        Role::AttentionNorm | Role::FeedForwardNorm | Role::FinalNorm | Role::QueryNorm | Role::KeyNorm => Some("norms"),
        _ => None,
    }
}

/// The module of a layer in the files.
fn module_of(site: &Site, all: &[Part], family: Family) -> Option<String> {
    let path = format!("{}.weight", site.layer);
    all.iter().find(|part| part.path == path && part.columns == site.columns).map(|part| part.hf_module(family))
}

/// The names of an adapter's tensors, in the order of [`AdapterPlan::shapes`].
fn tensor_names(module: &str) -> [String; 3] {
    [lora_name(module, "A"), lora_name(module, "B"), magnitude_name(module)]
}

fn magnitude_name(module: &str) -> String {
    format!("{PREFIX}{module}.lora_magnitude_vector")
}

fn lora_name(module: &str, half: &str) -> String {
    format!("{PREFIX}{module}.lora_{half}.weight")
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// A matrix of so many columns from one that lies the other way round; `rows` is how many rows it has afterwards.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    let mut turned = vec![0.0; values.len()];
    for (i, value) in values.iter().enumerate() {
        turned[(i % rows) * columns + i / rows] = *value;
    }
    turned
}

/// What the products of an adapter are multiplied by.
struct Scales {
    rank: usize,
    alpha: f64,
    rank_stabilized: bool,
    /// Whether the length of each column is trained.
    has_magnitude: bool,
}

impl Scales {
    fn read(fields: Fields<'_>) -> Result<Self, HubError> {
        match fields.text("peft_type")? {
            Some("LORA") => {}
            other => return Err(fields.unsupported("peft_type", format!("expected `LORA`, found `{}`", other.unwrap_or("nothing")))),
        }
        fields.only("bias", &[json!("none")], "biases are not trained with adapters")?;
        fields.only("lora_bias", &[json!(false)], "adapters have no biases")?;
        fields.only("layer_replication", &[], "layers are not repeated")?;
        fields.only("trainable_token_indices", &[], "single rows of the embedding are not trained")?;
        fields.only("target_parameters", &[json!([])], "adapters are on linear layers")?;
        fields.only("use_qalora", &[json!(false)], "QALoRA is not known")?;
        if let Some(way) = fields.get("init_lora_weights").and_then(Value::as_str)
            && CHANGES_BASE.iter().any(|name| way.to_lowercase().starts_with(name))
        {
            let reason = format!("`{way}` changes the base's weights, which the files do not hold; convert it with peft first");
            return Err(fields.unsupported("init_lora_weights", reason));
        }
        let rank = fields.needed_count("r")?;
        let alpha = fields.number("lora_alpha")?.unwrap_or(8.0);
        let flag = |key: &str| fields.flag(key).map(|flag| flag.unwrap_or(false));
        Ok(Self { rank, alpha, rank_stabilized: flag("use_rslora")?, has_magnitude: flag("use_dora")? })
    }

    /// The `alpha` of a module: that of the pattern that it or the end of its path is called.
    fn alpha_of(&self, fields: Fields<'_>, module: &str) -> Result<f64, HubError> {
        let Some(patterns) = fields.object("alpha_pattern", "alpha_pattern.")? else { return Ok(self.alpha) };
        let mut found: Option<f64> = None;
        for key in patterns.keys() {
            let (name, is_whole) = key.strip_prefix('^').map_or((key.as_str(), false), |name| (name, true));
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
                return Err(patterns.unsupported(key, "patterns are names of modules or ends of them"));
            }
            let is_end = module.strip_suffix(name).is_some_and(|before| before.is_empty() || !is_whole && before.ends_with('.'));
            let Some(alpha) = is_end.then(|| patterns.number(key)).transpose()?.flatten() else { continue };
            if found.is_some_and(|other| other.to_bits() != alpha.to_bits()) {
                return Err(patterns.unsupported(key, format!("two patterns say different things of `{module}`")));
            }
            found = Some(alpha);
        }
        Ok(found.unwrap_or(self.alpha))
    }
}

/// An adapter that is to be written.
#[derive(Clone, Debug)]
pub struct AdapterRequest<'a> {
    /// The shape of the base.
    pub config: &'a ModelConfig,
    /// Rows of its embedding.
    pub vocab_size: usize,
    /// What was trained.
    pub adapter: &'a AdapterConfig,
    /// Its matrices, and what was trained besides, by our paths.
    pub weights: &'a TensorMap,
    /// What the base is called, such as its folder.
    pub base_name: &'a str,
    /// The digest of the base's weights.
    pub base_digest: Option<String>,
}

/// Writes an adapter at `target`, which must not exist; what was written is read again and compared before it gets its name.
pub fn write_adapter(request: &AdapterRequest<'_>, target: &Path) -> Result<std::path::PathBuf, HubError> {
    let AdapterRequest { config, vocab_size, adapter, weights, .. } = *request;
    let family = Family::of(config).map_err(|reason| HubError::NotRepresentable { format: "PEFT", reason })?;
    let draft = FolderDraft::create(target)?;
    let all = parts(family, config, vocab_size);
    let refused = |source| HubError::Model { path: target.to_owned(), source };
    let plans = adapter.adapters(config).map_err(refused)?;
    let mut tensors: BTreeMap<String, Pending<'_>> = BTreeMap::new();
    let mut modules = Vec::new();
    for plan in &plans {
        let module = module_of(&plan.site, &all, family).unwrap_or_default();
        for ((path, mut shape), name) in plan.shapes().into_iter().zip(tensor_names(&module)) {
            shape.reverse();
            let rows = shape.clone();
            let turned = move |values: &[f32]| if rows.len() == 2 { transposed(values, rows[0]) } else { values.to_vec() };
            let values = Box::new(move || weights.get(&path).map(|tensor| turned(&tensor.values)));
            tensors.insert(name, Pending { shape, values });
        }
        modules.push((plan, module));
    }
    let mut saved = BTreeSet::new();
    for part in all.iter().filter(|part| group_of(part.role).is_some_and(|group| adapter.also_train.contains(group))) {
        let layout = part.hf_layout(family);
        let values = Box::new(move || weights.get(&part.path).and_then(|tensor| part.take(tensor, layout)));
        tensors.insert(format!("{PREFIX}{}", part.hf_name(family)), Pending { shape: part.dims(layout), values });
        saved.insert(part.hf_module(family));
    }
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    tensor_writer::write_file(&draft, ADAPTER_FILE, &names, &tensors, ElementType::F32)?;
    let text = describe(request, family, &modules, &saved);
    draft.write(ADAPTER_CONFIG_FILE, format!("{text:#}\n").as_bytes())?;
    let back = read_adapter(draft.path(), config, vocab_size)?;
    let scales = |adapter: &AdapterConfig| -> Result<Vec<(String, usize, u64)>, HubError> {
        let plans = adapter.adapters(config).map_err(refused)?;
        Ok(plans.iter().map(|plan: &AdapterPlan| (plan.path(), plan.rank, plan.scale.to_bits())).collect())
    };
    let differs = |what: &str| HubError::Differs { path: target.to_owned(), what: what.to_owned(), reason: "it is another one".to_owned() };
    if scales(&back.adapter)? != scales(adapter)? {
        return Err(differs("ranks and scales"));
    }
    if &back.weights != weights {
        return Err(differs(ADAPTER_FILE));
    }
    Ok(draft.publish()?)
}

/// The object of `adapter_config.json`.
fn describe(request: &AdapterRequest<'_>, family: Family, modules: &[(&AdapterPlan, String)], saved: &BTreeSet<String>) -> Value {
    let adapter = request.adapter;
    let alpha = |plan: &AdapterPlan| {
        let rank = plan.rank as f64;
        // The product with the divisor may round; the configuration's own number does not.
        let exact = adapter.alpha_pattern.values().copied().chain([adapter.alpha]);
        let divisor = if adapter.rank_stabilized { rank.sqrt() } else { rank };
        exact.into_iter().find(|alpha| (alpha / divisor).to_bits() == plan.scale.to_bits()).unwrap_or(plan.scale * divisor)
    };
    let mut ranks = Map::new();
    let mut alphas = Map::new();
    for (plan, module) in modules {
        if plan.rank != adapter.rank {
            ranks.insert(module.clone(), json!(plan.rank));
        }
        if alpha(plan).to_bits() != adapter.alpha.to_bits() {
            alphas.insert(module.clone(), json!(alpha(plan)));
        }
    }
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": request.base_name, DIGEST_KEY: request.base_digest,
        "r": adapter.rank, "lora_alpha": adapter.alpha, "lora_dropout": adapter.dropout, "use_rslora": adapter.rank_stabilized, "use_dora": adapter.kind == AdapterKind::Dora,
        "bias": "none", "fan_in_fan_out": family == Family::Gpt2, "inference_mode": true, "init_lora_weights": true,
        "target_modules": modules.iter().map(|(_, module)| module).collect::<Vec<_>>(),
        "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) }, "rank_pattern": ranks, "alpha_pattern": alphas,
    })
}
