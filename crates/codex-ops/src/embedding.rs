//! Rows of a table by their ids, with the rows of their positions.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use codex_kernels::Isa;
use codex_kernels::buffer::unset;
use codex_kernels::embedding::{Lookup, gather, scatter_add};

use crate::composite;
use crate::flex::{
    Plain, Route, dense, elements, from_plain, from_tracked, matrix_dims, must, optional_parts, parts, plain, record, route, tensor_of,
    tracked,
};
use crate::profile::timed;

/// A learned table of positions and which of its rows are asked for.
#[derive(Clone, Debug)]
pub struct Positions<'a> {
    /// `[context_length, width]`
    pub table: Tensor<2>,
    /// `[n]`
    pub ids: &'a [u32],
}

/// `y[i] = table[ids[i]]`, plus the row of its position where positions are learned.
///
/// # Shapes
/// `table` `[vocab_size, width]`, `ids` `[n]` -> `[n, width]`
///
/// # Panics
/// Where an id names no row.
pub fn embedding(table: Tensor<2>, ids: &[u32], positions: Option<Positions<'_>>) -> Tensor<2> {
    match route(&table) {
        Route::Composite => composite::embedding(table, ids, positions),
        Route::Plain => {
            let positions = positions.map(|positions| (plain(positions.table), positions.ids));
            from_plain(forward(&plain(table), ids, positions.as_ref().map(|(table, ids)| (table, *ids))))
        }
        Route::Tracked => {
            let (table, node) = parts(tracked(table));
            let (position_table, position_ids) = positions.map(|positions| (positions.table, positions.ids)).unzip();
            let (position_table, position_node) = optional_parts(position_table.map(tracked));
            from_tracked(record(EmbeddingBackward, [node, position_node], || {
                let output = forward(&table, ids, position_table.as_ref().zip(position_ids));
                let rows = [Some(&table), position_table.as_ref()].map(|table| table.map_or(0, |table| matrix_dims(table).0));
                let saved = Saved { rows, ids: Arc::from(ids), position_ids: position_ids.map(Arc::from) };
                (output, saved)
            }))
        }
    }
}

fn forward(table: &Plain, ids: &[u32], positions: Option<(&Plain, &[u32])>) -> Plain {
    let width = matrix_dims(table).1;
    let mut output = unset(ids.len() * width);
    let positions = positions.map(|(table, ids)| Lookup { table: elements(table), ids });
    must("embedding", timed("embedding", || gather(Isa::detect(), width, Lookup { table: elements(table), ids }, positions, &mut output)));
    tensor_of(output, [ids.len(), width])
}

#[derive(Clone, Debug)]
struct Saved {
    /// Rows of the two tables.
    rows: [usize; 2],
    ids: Arc<[u32]>,
    position_ids: Option<Arc<[u32]>>,
}

#[derive(Debug)]
struct EmbeddingBackward;

impl Backward<Flex, 2> for EmbeddingBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let Saved { rows, ids, position_ids } = ops.state;
        let width = matrix_dims(&gradient).1;
        for ((node, rows), ids) in ops.parents.into_iter().zip(rows).zip([Some(ids), position_ids]) {
            if let (Some(node), Some(ids)) = (node, ids) {
                let mut sums = vec![0.0; rows * width];
                must("embedding", timed("embedding: gradient", || scatter_add(Isa::detect(), width, &ids, elements(&gradient), &mut sums)));
                gradients.register::<Flex>(node.id, tensor_of(sums, [rows, width]));
            }
        }
    }
}
