//! The inference form of a Plan: the same numbers from fewer, coarser operations.
//!
//! Each pass looks only at the list; none knows a model. A buffer is folded away only when exactly one operation reads
//! it. Training walks the unfused plan.

use super::{Buffer, BufferId, HeadNorm, NormKind, Op, Plan, Rows};

/// Applies every fusion.
pub fn fuse(mut plan: Plan) -> Plan {
    hoist_select(&mut plan);
    fold_into_attend(&mut plan);
    fold_gates(&mut plan);
    fold_residuals(&mut plan);
    gather_linears(&mut plan);
    plan
}

fn n_readers(plan: &Plan, id: BufferId) -> usize {
    plan.ops.iter().map(|op| op.reads().iter().filter(|&&read| read == id).count()).sum()
}

fn writer(plan: &Plan, id: BufferId) -> Option<usize> {
    plan.ops.iter().position(|op| op.writes().contains(&id))
}

/// Moves the row selection up to just behind the last operation that needs all rows, such as an attention, so that what
/// follows runs for the wanted rows alone.
fn hoist_select(plan: &mut Plan) {
    let Some(select) = plan.ops.iter().position(|op| matches!(op, Op::Select { .. })) else { return };
    let Some(last) = plan.ops[..select].iter().rposition(|op| !op.is_row_wise()) else { return };
    if last + 1 == select {
        return;
    }
    let Op::Select { x: selected, out: select_out } = plan.ops.remove(select) else { return };
    let moved: Vec<BufferId> = plan.ops[last + 1..select].iter().flat_map(Op::writes).collect();
    let mut boundary: Vec<(BufferId, BufferId)> = Vec::new();
    for index in last + 1..select {
        let mut op = plan.ops[index].clone();
        op.map_reads(|id| {
            if moved.contains(&id) {
                return id;
            }
            if let Some((_, out)) = boundary.iter().find(|(from, _)| *from == id) {
                return *out;
            }
            let Buffer { name, width, .. } = plan.buffers[id.0 as usize].clone();
            plan.buffers.push(Buffer { name: format!("{name} (selected)"), width, rows: Rows::Outputs });
            let out = BufferId(plan.buffers.len() as u32 - 1);
            boundary.push((id, out));
            out
        });
        plan.ops[index] = op;
    }
    for id in moved {
        plan.buffers[id.0 as usize].rows = Rows::Outputs;
    }
    for op in &mut plan.ops[select..] {
        op.map_reads(|id| if id == select_out { selected } else { id });
    }
    let selects = boundary.into_iter().map(|(x, out)| Op::Select { x, out });
    plan.ops.splice(last + 1..last + 1, selects);
}

/// Folds the rotation of q and k, and before it their per-head norms, into the attention that reads them.
fn fold_into_attend(plan: &mut Plan) {
    let mut removed = Vec::new();
    for index in 0..plan.ops.len() {
        let Op::Attend { q, kv, cache, rope: None, q_norm: None, k_norm: None, .. } = plan.ops[index] else {
            continue;
        };
        let head_dim = plan.cache(cache).head_dim;
        let rope_of = |id: BufferId| {
            let at = writer(plan, id)?;
            match plan.ops[at] {
                Op::Rope { x, rope, head_dim: dim, .. } if dim == head_dim && n_readers(plan, id) == 1 => {
                    Some((at, x, rope))
                }
                _ => None,
            }
        };
        let Some((q_at, q_in, q_rope)) = rope_of(q) else { continue };
        let rotated_k = match kv.map(|(k, _)| rope_of(k)) {
            None => None,
            Some(Some((k_at, k_in, k_rope))) if k_rope == q_rope => Some((k_at, k_in)),
            Some(_) => continue,
        };
        removed.push(q_at);
        removed.extend(rotated_k.map(|(k_at, _)| k_at));
        let mut norm_of = |id: BufferId| {
            let normed = writer(plan, id).and_then(|at| match plan.ops[at] {
                Op::Norm {
                    x,
                    kind: NormKind::Rms { eps },
                    weight: Some(weight),
                    bias: None,
                    head_dim: Some(dim),
                    ..
                } if dim == head_dim && n_readers(plan, id) == 1 => Some((at, x, HeadNorm { weight, eps })),
                _ => None,
            });
            match normed {
                Some((at, x, norm)) => {
                    removed.push(at);
                    (x, Some(norm))
                }
                None => (id, None),
            }
        };
        let (q_in, q_head_norm) = norm_of(q_in);
        let (k_in, k_head_norm) = match rotated_k {
            Some((_, k_in)) => norm_of(k_in),
            None => (q_in, None),
        };
        if let Op::Attend { q, kv, rope, q_norm, k_norm, .. } = &mut plan.ops[index] {
            *q = q_in;
            if let Some((k, _)) = kv {
                *k = k_in;
            }
            *rope = Some(q_rope);
            *q_norm = q_head_norm;
            *k_norm = k_head_norm;
        }
    }
    remove_ops(plan, removed);
}

/// Folds a gate and an up projection of the same input, and the activation that joins them, into one operation.
fn fold_gates(plan: &mut Plan) {
    let mut removed = Vec::new();
    for index in 0..plan.ops.len() {
        let Op::Glu { gate, up, act, out } = plan.ops[index] else { continue };
        let plain_linear = |id: BufferId| {
            let at = writer(plan, id)?;
            match &plan.ops[at] {
                Op::Linear { x, parts, residual: None }
                    if parts.len() == 1 && parts[0].bias.is_none() && n_readers(plan, id) == 1 =>
                {
                    Some((at, *x, parts[0].weight))
                }
                _ => None,
            }
        };
        let (Some((gate_at, gate_x, gate_w)), Some((up_at, up_x, up_w))) =
            (plain_linear(gate), plain_linear(up))
        else {
            continue;
        };
        if gate_x != up_x {
            continue;
        }
        removed.extend([gate_at, up_at]);
        plan.ops[index] = Op::GatedLinear { x: gate_x, gate: gate_w, up: up_w, act, out };
    }
    remove_ops(plan, removed);
}

/// Folds an addition into the linear that produced one of its operands.
fn fold_residuals(plan: &mut Plan) {
    let mut removed = Vec::new();
    for index in 0..plan.ops.len() {
        let Op::Add { x, y, out } = plan.ops[index] else { continue };
        for (produced, other) in [(y, x), (x, y)] {
            let Some(at) = writer(plan, produced) else { continue };
            // The other operand must exist when the linear runs.
            if produced == other
                || n_readers(plan, produced) != 1
                || writer(plan, other).is_none_or(|w| w > at)
            {
                continue;
            }
            if let Op::Linear { parts, residual, .. } = &mut plan.ops[at]
                && parts.len() == 1
                && residual.is_none()
            {
                parts[0].out = out;
                *residual = Some(other);
                removed.push(index);
                break;
            }
        }
    }
    remove_ops(plan, removed);
}

/// Joins neighbouring linears that read the same input.
fn gather_linears(plan: &mut Plan) {
    let mut index = 0;
    while index + 1 < plan.ops.len() {
        let (head, tail) = plan.ops.split_at_mut(index + 1);
        if let (
            Op::Linear { x, parts, residual: None },
            Op::Linear { x: next_x, parts: next, residual: None },
        ) = (&mut head[index], &mut tail[0])
            && x == next_x
        {
            parts.append(next);
            plan.ops.remove(index + 1);
        } else {
            index += 1;
        }
    }
}

fn remove_ops(plan: &mut Plan, removed: Vec<usize>) {
    let mut index = 0;
    plan.ops.retain(|_| {
        index += 1;
        !removed.contains(&(index - 1))
    });
}
