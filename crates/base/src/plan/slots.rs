//! Mapping single-assignment buffers onto reused memory.

use super::{Plan, Rows};

/// Where each buffer lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Slot of each buffer, by buffer index. Buffers that no operation writes have slot `usize::MAX`.
    pub of_buffer: Vec<usize>,
    /// Width of each slot, and whether it holds whole batches or only output rows.
    pub slots: Vec<(usize, Rows)>,
}

/// Assigns slots so that two buffers share one only if their lifetimes are disjoint. An operation's output never shares
/// a slot with one of its inputs.
pub fn assign_slots(plan: &Plan) -> Slots {
    let n_buffers = plan.buffers.len();
    let mut last_use = vec![0usize; n_buffers];
    for (index, op) in plan.ops.iter().enumerate() {
        for id in op.reads().into_iter().chain(op.writes()) {
            last_use[id.0 as usize] = index;
        }
    }
    let mut of_buffer = vec![usize::MAX; n_buffers];
    let mut slots: Vec<(usize, Rows)> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    for (index, op) in plan.ops.iter().enumerate() {
        for id in op.writes() {
            let buffer = plan.buffer(id);
            let chosen = free
                .iter()
                .copied()
                .filter(|&slot| slots[slot].1 == buffer.rows)
                // The narrowest that is wide enough, else the widest, which then grows.
                .min_by_key(|&slot| {
                    let width = slots[slot].0;
                    if width >= buffer.width { (0, width) } else { (1, usize::MAX - width) }
                });
            let slot = match chosen {
                Some(slot) => {
                    free.retain(|&other| other != slot);
                    slots[slot].0 = slots[slot].0.max(buffer.width);
                    slot
                }
                None => {
                    slots.push((buffer.width, buffer.rows));
                    slots.len() - 1
                }
            };
            of_buffer[id.0 as usize] = slot;
        }
        let mut done: Vec<usize> = op
            .reads()
            .into_iter()
            .chain(op.writes())
            .filter(|id| last_use[id.0 as usize] == index)
            .map(|id| of_buffer[id.0 as usize])
            .filter(|&slot| slot != usize::MAX)
            .collect();
        done.sort_unstable();
        done.dedup();
        free.extend(done);
    }
    Slots { of_buffer, slots }
}
