//! Attention in f64, one pair of positions at a time.

use codex_kernels::attention::{AttentionShape, RotaryTable};

/// Numbers in [-1, 1) from a counter (SplitMix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn vec(&mut self, n: usize, size: f32) -> Vec<f32> {
        (0..n).map(|_| ((self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0) * size).collect()
    }
}

/// One call's inputs, and what attention does with them.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) shape: AttentionShape,
    pub(crate) qkv: Vec<f32>,
    pub(crate) rope: Option<RotaryTable>,
    pub(crate) segments: Option<Vec<u32>>,
    pub(crate) d_out: Vec<f32>,
}

/// Output, log-sum-exp and gradient.
pub(crate) struct Answer {
    pub(crate) out: Vec<f64>,
    pub(crate) log_sum_exp: Vec<f64>,
    pub(crate) d_qkv: Vec<f64>,
}

impl Case {
    pub(crate) fn new(shape: AttentionShape, rope: bool, segments: bool, size: f32, seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let positions = shape.batch * shape.time;
        let width = (shape.n_heads + 2 * shape.n_kv_heads) * shape.head_dim;
        let mut document = 5;
        let segments = segments.then(|| {
            let mean = 1 + numbers.below(shape.time.max(1));
            let mut step = || {
                if numbers.below(mean) == 0 {
                    document = numbers.below(9) as u32;
                }
                document
            };
            (0..positions).map(|_| step()).collect()
        });
        let rope = rope.then(|| RotaryTable::new(0, shape.time + seed as usize % 3, shape.head_dim, 10_000.0).unwrap());
        let qkv = numbers.vec(positions * width, size);
        let d_out = numbers.vec(positions * shape.n_heads * shape.head_dim, 1.0);
        Self { shape, qkv, rope, segments, d_out }
    }

    fn cos_sin(&self, position: usize) -> Option<(Vec<f64>, Vec<f64>)> {
        // A head of ones and zeros, turned, shows the table.
        let half = self.shape.head_dim / 2;
        self.rope.as_ref().map(|table| {
            let mut head = vec![0.0; self.shape.head_dim];
            head[..half].fill(1.0);
            table.rotate(position, &mut head).unwrap();
            let wide = |part: &[f32]| part.iter().map(|x| f64::from(*x)).collect();
            (wide(&head[..half]), wide(&head[half..]))
        })
    }

    fn turn(&self, head: &mut [f64], position: usize, sign: f64) {
        let half = self.shape.head_dim / 2;
        if let Some((cos, sin)) = self.cos_sin(position) {
            for i in 0..half {
                let (a, b, sin) = (head[i], head[half + i], sign * sin[i]);
                (head[i], head[half + i]) = (a * cos[i] - b * sin, b * cos[i] + a * sin);
            }
        }
    }

    fn sees(&self, sequence: usize, query: usize, key: usize) -> bool {
        let row = sequence * self.shape.time;
        let near = self.shape.window == 0 || query - key < self.shape.window;
        near && self.segments.as_ref().is_none_or(|all| all[row + query] == all[row + key])
    }

    /// Forward and gradient for an input in f64.
    pub(crate) fn answer(&self, qkv: &[f64]) -> Answer {
        let AttentionShape { batch, time, n_heads, n_kv_heads, head_dim, .. } = self.shape;
        let width = (n_heads + 2 * n_kv_heads) * head_dim;
        let mut turned = qkv.to_vec();
        for (row, line) in turned.chunks_mut(width).enumerate() {
            for head in line.chunks_mut(head_dim).take(n_heads + n_kv_heads) {
                self.turn(head, row % time, 1.0);
            }
        }
        let mut answer = Answer {
            out: vec![0.0; batch * time * n_heads * head_dim],
            log_sum_exp: vec![0.0; batch * n_heads * time],
            d_qkv: vec![0.0; qkv.len()],
        };
        let scale = 1.0 / (head_dim as f64).sqrt();
        for sequence in 0..batch {
            for head in 0..n_heads {
                let kv_head = head / (n_heads / n_kv_heads);
                let place = |t: usize, column: usize| (sequence * time + t) * width + column * head_dim;
                for query in 0..time {
                    let q = place(query, head);
                    let o = ((sequence * time + query) * n_heads + head) * head_dim;
                    let keys: Vec<usize> = (0..=query).filter(|key| self.sees(sequence, query, *key)).collect();
                    let k = |key: usize| place(key, n_heads + kv_head);
                    let v = |key: usize| place(key, n_heads + n_kv_heads + kv_head);
                    let score = |key: usize| (0..head_dim).map(|d| turned[q + d] * turned[k(key) + d]).sum::<f64>() * scale;
                    let scores: Vec<f64> = keys.iter().map(|key| score(*key)).collect();
                    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let total: f64 = scores.iter().map(|score| (score - top).exp()).sum();
                    answer.log_sum_exp[(sequence * n_heads + head) * time + query] = top + total.ln();
                    let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp() / total).collect();
                    for (key, weight) in keys.iter().zip(&weights) {
                        for d in 0..head_dim {
                            answer.out[o + d] += weight * turned[v(*key) + d];
                        }
                    }
                    let d_out: Vec<f64> = (0..head_dim).map(|d| f64::from(self.d_out[o + d])).collect();
                    let mean: f64 = (0..head_dim).map(|d| d_out[d] * answer.out[o + d]).sum();
                    for (key, weight) in keys.iter().zip(&weights) {
                        let d_weight: f64 = (0..head_dim).map(|d| d_out[d] * turned[v(*key) + d]).sum();
                        let d_score = weight * (d_weight - mean) * scale;
                        for d in 0..head_dim {
                            answer.d_qkv[v(*key) + d] += weight * d_out[d];
                            answer.d_qkv[k(*key) + d] += d_score * turned[q + d];
                            answer.d_qkv[q + d] += d_score * turned[k(*key) + d];
                        }
                    }
                }
            }
        }
        for (row, line) in answer.d_qkv.chunks_mut(width).enumerate() {
            for head in line.chunks_mut(head_dim).take(n_heads + n_kv_heads) {
                self.turn(head, row % time, -1.0);
            }
        }
        answer
    }
}
