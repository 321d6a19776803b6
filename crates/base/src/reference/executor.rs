//! Executes a Plan one operation at a time, with caches of floats, rounded as the cache's type would, and no
//! reuse of anything.

use std::collections::HashMap;

use super::ops;
use crate::quant::{decode_row, dot_row, quantize_activations};
use crate::{
    Backend, BackendError, Batch, BufferId, Executor, ExecutorLimits, HeadNorm, NormKind, Observer, Op,
    PAGE_TOKENS, Plan, PoolKind, ProductInput, Rope, Sight, Weight, WeightId, rotate,
};

/// The scalar backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceBackend {
    /// Round the input of every linear with quantized weights to 8-bit groups first, as the fast kernels do.
    pub quantize_activations: bool,
}

impl Backend for ReferenceBackend {
    fn describe(&self) -> String {
        "reference (scalar)".to_owned()
    }

    fn load(&self, plan: Plan, limits: ExecutorLimits) -> Result<Box<dyn Executor>, BackendError> {
        let mut group_of_layer = vec![0; plan.caches.len()];
        let mut group_of_history = vec![0; plan.histories.len()];
        for (group, members) in plan.cache_groups().iter().enumerate() {
            for layer in &members.layers {
                group_of_layer[layer.0 as usize] = group;
            }
            for history in &members.histories {
                group_of_history[history.0 as usize] = group;
            }
        }
        Ok(Box::new(ReferenceExecutor {
            act_groups: plan.act_groups(),
            plan,
            limits,
            backend: *self,
            group_of_layer,
            group_of_history,
            cache: HashMap::new(),
            rows: HashMap::new(),
        }))
    }
}

type CacheKey = (usize, u32, usize);

struct ReferenceExecutor {
    plan: Plan,
    act_groups: Vec<Option<usize>>,
    limits: ExecutorLimits,
    backend: ReferenceBackend,
    group_of_layer: Vec<usize>,
    group_of_history: Vec<usize>,
    /// (layer, page, token in page) -> its keys and values, all heads.
    cache: HashMap<CacheKey, (Vec<f32>, Vec<f32>)>,
    /// (history, page, token in page) -> what is kept of it.
    rows: HashMap<CacheKey, Vec<f32>>,
}

fn vector(weight: &Weight) -> Vec<f32> {
    let mut out = vec![0.0; weight.n_rows * weight.n_cols];
    decode_row(weight.dtype, &weight.data, &mut out);
    out
}

impl ReferenceExecutor {
    /// What comes out of the cache for keys or values of all heads.
    fn stored(&self, x: &[f32], head_dim: usize) -> Vec<f32> {
        let cache_type = self.limits.cache_type;
        let heads = x.chunks(head_dim).flat_map(|head| {
            let mut head = head.to_vec();
            head.resize(cache_type.padded(head_dim), 0.0);
            if cache_type.rotates() {
                rotate(&mut head);
            }
            cache_type.round(&mut head);
            if cache_type.rotates() {
                rotate(&mut head);
            }
            head.truncate(head_dim);
            head
        });
        heads.collect()
    }

    /// `group`: in which the input is rounded, if it is.
    fn linear(
        &self,
        x: &[Vec<f32>],
        group: Option<usize>,
        id: WeightId,
        bias: Option<WeightId>,
    ) -> Vec<Vec<f32>> {
        let weight = self.plan.weight(id);
        let row_bytes = weight.data.len() / weight.n_rows;
        let bias = bias.map(|id| vector(self.plan.weight(id)));
        x.iter()
            .map(|x| {
                let group =
                    group.filter(|_| self.backend.quantize_activations && weight.dtype.is_quantized());
                let rounded = group.map(|group| {
                    let (mut q, mut d) = (vec![0i8; x.len()], vec![0f32; x.len() / 32]);
                    let mut sum = d.clone();
                    quantize_activations(x, group, &mut q, &mut d, &mut sum);
                    q.iter().enumerate().map(|(i, &q)| f32::from(q) * d[i / 32]).collect::<Vec<f32>>()
                });
                let x = rounded.as_deref().unwrap_or(x);
                (0..weight.n_rows)
                    .map(|row| {
                        let bytes = &weight.data[row * row_bytes..(row + 1) * row_bytes];
                        dot_row(weight.dtype, bytes, x) + bias.as_ref().map_or(0.0, |bias| bias[row])
                    })
                    .collect()
            })
            .collect()
    }

    fn group(&self, x: BufferId) -> Option<usize> {
        self.act_groups[x.0 as usize]
    }

    fn table_row(&self, table: WeightId, row: usize) -> Vec<f32> {
        let weight = self.plan.weight(table);
        let row_bytes = weight.data.len() / weight.n_rows;
        let mut out = vec![0.0; weight.n_cols];
        decode_row(weight.dtype, &weight.data[row * row_bytes..(row + 1) * row_bytes], &mut out);
        out
    }

    fn prepare_heads(
        &self,
        x: &[f32],
        head_dim: usize,
        norm: Option<HeadNorm>,
        rope: Option<(&Rope, usize)>,
    ) -> Vec<f32> {
        let mut out = x.to_vec();
        for head in out.chunks_exact_mut(head_dim) {
            if let Some(norm) = norm {
                let input = head.to_vec();
                ops::norm(
                    NormKind::Rms { eps: norm.eps },
                    &input,
                    Some(&vector(self.plan.weight(norm.weight))),
                    None,
                    head,
                );
            }
            if let Some((rope, position)) = rope {
                ops::rope(rope, position, head);
            }
        }
        out
    }

    /// Shows the observer, if there is one, what goes into a product.
    fn show(
        &self,
        observer: &mut Option<&mut dyn Observer>,
        weights: &[WeightId],
        expert: Option<(usize, usize)>,
        rows: &[Vec<f32>],
    ) {
        if let (Some(observer), Some(first)) = (observer, rows.first()) {
            let weights: Vec<&Weight> = weights.iter().map(|id| self.plan.weight(*id)).collect();
            let n = first.len();
            observer.input(ProductInput::new(&weights, expert, &rows.concat(), n, n));
        }
    }

    fn pass(
        &mut self,
        batch: &Batch<'_>,
        logits: &mut [f32],
        pooled: &mut [f32],
        mut observer: Option<&mut dyn Observer>,
    ) -> Result<(), BackendError> {
        let mut selected = Vec::new();
        batch.selected(self.plan.pool().map(|pool| pool.kind), &mut selected);
        if batch.tokens.len() > self.limits.max_rows || selected.len() > self.limits.max_outputs {
            return Err(BackendError::InvalidBatch(
                "more rows or outputs than the executor was loaded for".to_owned(),
            ));
        }
        let mut position = vec![0usize; batch.tokens.len()];
        for segment in batch.segments {
            for (i, row) in segment.rows.clone().enumerate() {
                position[row] = segment.first_position + i;
            }
        }
        let mut values: HashMap<BufferId, Vec<Vec<f32>>> = HashMap::new();
        let ops = self.plan.ops.clone();
        for op in &ops {
            match op {
                Op::Embed { table, scale, out } => {
                    let rows = batch.tokens.iter().map(|&token| {
                        let token = token as usize;
                        let is_there = token < self.plan.weight(*table).n_rows;
                        let mut row = self.table_row(*table, if is_there { token } else { 0 });
                        row.iter_mut().for_each(|v| *v *= scale);
                        row
                    });
                    values.insert(*out, rows.collect());
                }
                Op::EmbedPosition { table, out } => {
                    let rows = position.iter().map(|&position| self.table_row(*table, position));
                    values.insert(*out, rows.collect());
                }
                Op::EmbedType { table, out } => {
                    let types = (0..batch.tokens.len()).map(|row| batch.types.get(row).copied().unwrap_or(0));
                    let rows = types.map(|kind| self.table_row(*table, usize::from(kind)));
                    values.insert(*out, rows.collect());
                }
                Op::Norm { x, kind, weight, bias, head_dim, out } => {
                    let weight = weight.map(|id| vector(self.plan.weight(id)));
                    let bias = bias.map(|id| vector(self.plan.weight(id)));
                    let rows = values[x].iter().map(|x| {
                        let mut row = vec![0.0; x.len()];
                        let span = head_dim.unwrap_or(x.len());
                        for (head, (x, out)) in
                            x.chunks_exact(span).zip(row.chunks_exact_mut(span)).enumerate()
                        {
                            // One for all slices, or one for each.
                            let own = |all: &'_ Option<Vec<f32>>| -> Option<Vec<f32>> {
                                all.as_ref().map(|all| {
                                    let at = if all.len() == span { 0 } else { head * span };
                                    all[at..at + span].to_vec()
                                })
                            };
                            ops::norm(*kind, x, own(&weight).as_deref(), own(&bias).as_deref(), out);
                        }
                        row
                    });
                    let rows = rows.collect();
                    values.insert(*out, rows);
                }
                Op::Linear { x, parts, residual } => {
                    let weights: Vec<WeightId> = parts.iter().map(|part| part.weight).collect();
                    self.show(&mut observer, &weights, None, &values[x]);
                    for part in parts {
                        let mut rows = self.linear(&values[x], self.group(*x), part.weight, part.bias);
                        if let Some(residual) = residual {
                            for (row, residual) in rows.iter_mut().zip(&values[residual]) {
                                row.iter_mut().zip(residual).for_each(|(a, b)| *a += b);
                            }
                        }
                        values.insert(part.out, rows);
                    }
                }
                Op::GatedLinear { x, gate, up, act, out } => {
                    self.show(&mut observer, &[*gate, *up], None, &values[x]);
                    let gate = self.linear(&values[x], self.group(*x), *gate, None);
                    let up = self.linear(&values[x], self.group(*x), *up, None);
                    values.insert(*out, glu(&gate, &up, *act));
                }
                Op::Glu { gate, up, act, out } => {
                    let rows = glu(&values[gate], &values[up], *act);
                    values.insert(*out, rows);
                }
                Op::Rope { x, rope, head_dim, out } => {
                    let rope = self.plan.rope(*rope);
                    let rows = values[x].iter().zip(&position);
                    let rows =
                        rows.map(|(x, &p)| self.prepare_heads(x, *head_dim, None, Some((rope, p)))).collect();
                    values.insert(*out, rows);
                }
                Op::Attend {
                    q,
                    kv,
                    cache,
                    n_heads,
                    scale,
                    sharpening,
                    softcap,
                    sight,
                    bias,
                    q_norm,
                    k_norm,
                    rope,
                    out,
                } => {
                    let layer = self.plan.cache(*cache).clone();
                    let group = self.group_of_layer[cache.0 as usize];
                    let dim = layer.head_dim;
                    let mut rows = vec![vec![0.0; n_heads * dim]; batch.tokens.len()];
                    for segment in batch.segments {
                        let pages = segment.pages[group];
                        let key = |p: usize| (cache.0 as usize, pages[p / PAGE_TOKENS], p % PAGE_TOKENS);
                        for row in segment.rows.clone() {
                            let Some((k, v)) = kv else { continue };
                            let rope = rope.map(|id| (self.plan.rope(id), position[row]));
                            let k = self.prepare_heads(&values[k][row], dim, *k_norm, rope);
                            let [k, v] = [&k, &values[v][row]].map(|x| self.stored(x, dim));
                            self.cache.insert(key(position[row]), (k, v));
                        }
                        for row in segment.rows.clone() {
                            let rope = rope.map(|id| (self.plan.rope(id), position[row]));
                            let q = self.prepare_heads(&values[q][row], dim, *q_norm, rope);
                            let end = segment.first_position + segment.rows.len();
                            let here = position[row];
                            let scale = scale * sharpening.map_or(1.0, |sharpening| sharpening.factor(here));
                            let seen = match sight {
                                Sight::Before => {
                                    layer.window.map_or(0, |window| (here + 1).saturating_sub(window))
                                        ..here + 1
                                }
                                Sight::All => 0..end,
                                Sight::Near(n) => {
                                    here.saturating_sub(*n)..(here + 1).saturating_add(*n).min(end)
                                }
                            };
                            let biases = |head: usize| -> Vec<f32> {
                                let Some(bias) = bias else { return Vec::new() };
                                let row = self.table_row(*bias, head);
                                let most = row.len() as isize / 2;
                                let distance = |p: usize| (p as isize - here as isize).clamp(-most, most);
                                seen.clone().map(|p| row[(most + distance(p)) as usize]).collect()
                            };
                            let cached: Vec<_> = seen.clone().map(|p| &self.cache[&key(p)]).collect();
                            for head in 0..*n_heads {
                                let kv = head / (n_heads / layer.n_kv_heads) * dim;
                                let keys: Vec<&[f32]> =
                                    cached.iter().map(|(k, _)| &k[kv..kv + dim]).collect();
                                let vals: Vec<&[f32]> =
                                    cached.iter().map(|(_, v)| &v[kv..kv + dim]).collect();
                                let span = head * dim..(head + 1) * dim;
                                ops::attend(
                                    &q[span.clone()],
                                    &keys,
                                    &vals,
                                    (scale, *softcap, &biases(head)),
                                    &mut rows[row][span],
                                );
                            }
                        }
                    }
                    values.insert(*out, rows);
                }
                Op::Act { x, act, out } => {
                    let rows = values[x].iter();
                    let rows = rows.map(|x| x.iter().map(|&x| ops::activation(*act, x)).collect()).collect();
                    values.insert(*out, rows);
                }
                Op::Scale { x, factor, out } => {
                    let rows = values[x].iter().map(|x| x.iter().map(|x| factor * x).collect()).collect();
                    values.insert(*out, rows);
                }
                Op::Convolve { x, history, weight, bias, out } => {
                    let (history, n) = (history.0 as usize, self.plan.history(*history).window);
                    let group = self.group_of_history[history];
                    let bias = bias.map(|id| vector(self.plan.weight(id)));
                    let mut rows = vec![Vec::new(); batch.tokens.len()];
                    for segment in batch.segments {
                        let pages = segment.pages[group];
                        let key = |p: usize| (history, pages[p / PAGE_TOKENS], p % PAGE_TOKENS);
                        for row in segment.rows.clone() {
                            let here = position[row];
                            self.rows.insert(key(here), values[x][row].clone());
                            let seen = (here + 1).saturating_sub(n)..here + 1;
                            let seen: Vec<&Vec<f32>> = seen.map(|p| &self.rows[&key(p)]).collect();
                            let value = |c: usize| {
                                let column: Vec<f32> = seen.iter().map(|row| row[c]).collect();
                                let bias = bias.as_ref().map_or(0.0, |bias| bias[c]);
                                ops::convolve(&column, &self.table_row(*weight, c), bias)
                            };
                            rows[row] = (0..values[x][row].len()).map(value).collect();
                        }
                    }
                    values.insert(*out, rows);
                }
                Op::Mix { x, parts, coefficients, first, out } => {
                    let mut rows = values[x].clone();
                    for (m, row) in rows.iter_mut().enumerate() {
                        for (part, factor) in parts.iter().zip(&values[coefficients][m][*first..]) {
                            row.iter_mut().zip(&values[part][m]).for_each(|(sum, v)| *sum += factor * v);
                        }
                    }
                    values.insert(*out, rows);
                }
                Op::Match { x, like, least, out } => {
                    let mut rows = values[x].clone();
                    for (row, like) in rows.iter_mut().zip(&values[like]) {
                        ops::match_size(row, like, *least);
                    }
                    values.insert(*out, rows);
                }
                Op::Outliers { x, deviations, out } => {
                    let mut rows = values[x].clone();
                    rows.iter_mut().for_each(|row| ops::outliers(row, *deviations));
                    values.insert(*out, rows);
                }
                Op::Multiply { x, weight, out } => {
                    let weight = vector(self.plan.weight(*weight));
                    let rows = values[x].iter();
                    let rows = rows.map(|x| x.iter().zip(&weight).map(|(x, w)| x * w).collect()).collect();
                    values.insert(*out, rows);
                }
                Op::Columns { x, first, out } => {
                    let n = self.plan.buffer(*out).width;
                    let rows = values[x].iter().map(|x| x[*first..*first + n].to_vec()).collect();
                    values.insert(*out, rows);
                }
                Op::Add { x, y, out } => {
                    let rows = values[x].iter().zip(&values[y]);
                    let rows = rows.map(|(x, y)| x.iter().zip(y).map(|(a, b)| a + b).collect()).collect();
                    values.insert(*out, rows);
                }
                Op::Route { x, n_used, normalize, out } => {
                    let rows = values[x].iter().map(|x| {
                        let mut row = vec![0.0; x.len()];
                        ops::route(x, *n_used, *normalize, &mut row);
                        row
                    });
                    let rows = rows.collect();
                    values.insert(*out, rows);
                }
                Op::Experts { x, weights, experts, act, out, .. } => {
                    let groups = [
                        self.plan.act_group(experts.iter().flat_map(|expert| [expert.gate, expert.up])),
                        self.plan.act_group(experts.iter().map(|expert| expert.down)),
                    ];
                    let mut show = |weights: &[WeightId], expert, rows: &[Vec<f32>]| {
                        self.show(&mut observer, weights, Some((expert, experts.len())), rows);
                    };
                    let rows = values[x].iter().zip(&values[weights]).map(|(x, weights)| {
                        let mut sum = vec![0.0; x.len()];
                        let chosen = experts.iter().zip(weights).enumerate().filter(|(_, (_, w))| **w != 0.0);
                        for (at, (expert, &weight)) in chosen {
                            let x = std::slice::from_ref(x);
                            show(&[expert.gate, expert.up], at, x);
                            let gate = self.linear(x, groups[0], expert.gate, None);
                            let up = self.linear(x, groups[0], expert.up, None);
                            let h = glu(&gate, &up, *act);
                            show(&[expert.down], at, &h);
                            let given = self.linear(&h, groups[1], expert.down, None);
                            sum.iter_mut().zip(&given[0]).for_each(|(sum, v)| *sum += weight * v);
                        }
                        sum
                    });
                    let rows = rows.collect();
                    values.insert(*out, rows);
                }
                Op::SequenceMean { x, out } => {
                    let mut rows = vec![Vec::new(); batch.tokens.len()];
                    for segment in batch.segments {
                        let states: Vec<&[f32]> =
                            values[x][segment.rows.clone()].iter().map(Vec::as_slice).collect();
                        let mut mean = vec![0.0; self.plan.buffer(*x).width];
                        ops::pool(PoolKind::Mean, false, &states, 0, Some(states.len()), &mut mean);
                        rows[segment.rows.clone()].fill(mean);
                    }
                    values.insert(*out, rows);
                }
                Op::Select { x, out } => {
                    let rows = selected.iter().map(|&row| values[x][row].clone()).collect();
                    values.insert(*out, rows);
                }
                Op::Pool { x, kind, normalize } => {
                    let width = self.plan.buffer(*x).width;
                    let mut next = batch.outputs.len();
                    for (pool, state) in batch.pools.iter().zip(pooled.chunks_exact_mut(width)) {
                        let segment = &batch.segments[pool.segment];
                        let n = kind.rows(segment, pool.ends).len();
                        let rows: Vec<&[f32]> = values[x][next..next + n].iter().map(Vec::as_slice).collect();
                        next += n;
                        let end = segment.first_position + segment.rows.len();
                        let end = pool.ends.then_some(end);
                        ops::pool(*kind, *normalize, &rows, segment.first_position, end, state);
                    }
                }
                Op::Logits { x, weight, bias, scale, softcap } => {
                    let wanted = &values[x][..batch.outputs.len()];
                    self.show(&mut observer, &[*weight], None, wanted);
                    let rows = self.linear(wanted, self.group(*x), *weight, None);
                    let bias = bias.map(|id| vector(self.plan.weight(id)));
                    for (row, out) in rows.iter().zip(logits.chunks_exact_mut(self.plan.n_vocab)) {
                        for (token, (logit, out)) in row.iter().zip(out).enumerate() {
                            let logit = logit * scale + bias.as_ref().map_or(0.0, |bias| bias[token]);
                            *out = softcap.map_or(logit, |cap| ops::softcap(cap, logit));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Executor for ReferenceExecutor {
    fn run(&mut self, batch: &Batch<'_>, logits: &mut [f32], pooled: &mut [f32]) -> Result<(), BackendError> {
        self.pass(batch, logits, pooled, None)
    }

    fn run_observed(
        &mut self,
        batch: &Batch<'_>,
        logits: &mut [f32],
        pooled: &mut [f32],
        observer: &mut dyn Observer,
    ) -> Result<(), BackendError> {
        self.pass(batch, logits, pooled, Some(observer))
    }

    fn copy_page(&mut self, group: usize, from: u32, to: u32, n_tokens: usize) {
        for layer in (0..self.plan.caches.len()).filter(|&layer| self.group_of_layer[layer] == group) {
            for token in 0..n_tokens {
                if let Some(entry) = self.cache.get(&(layer, from, token)).cloned() {
                    self.cache.insert((layer, to, token), entry);
                }
            }
        }
        for history in (0..self.plan.histories.len()).filter(|&id| self.group_of_history[id] == group) {
            for token in 0..n_tokens {
                if let Some(row) = self.rows.get(&(history, from, token)).cloned() {
                    self.rows.insert((history, to, token), row);
                }
            }
        }
    }

    fn memory(&self) -> usize {
        let cached: usize = self.cache.values().map(|(k, v)| 4 * (k.len() + v.len())).sum();
        cached + self.rows.values().map(|row| 4 * row.len()).sum::<usize>()
    }
}

fn glu(gate: &[Vec<f32>], up: &[Vec<f32>], act: crate::Activation) -> Vec<Vec<f32>> {
    gate.iter()
        .zip(up)
        .map(|(gate, up)| gate.iter().zip(up).map(|(&g, &u)| ops::activation(act, g) * u).collect())
        .collect()
}
