//! The choice of a format for each of several matrices, such that costs are small and bytes within a bound.

use whit_base::DType;

/// A format that a matrix may get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) format: DType,
    pub(super) n_bytes: u64,
    pub(super) cost: f64,
}

/// Of a matrix's formats those that are worth their bytes, from the smallest on: each costs less than the one before, and wins less
/// per byte than that did (the lower convex hull).
pub(super) fn hull(mut steps: Vec<Step>) -> Vec<Step> {
    steps.retain(|step| step.cost.is_finite());
    steps.sort_by(|a, b| {
        (a.n_bytes, a.cost).partial_cmp(&(b.n_bytes, b.cost)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut kept: Vec<Step> = Vec::new();
    for step in steps {
        if kept.last().is_some_and(|last| step.cost >= last.cost) {
            continue;
        }
        while let [.., before, last] = kept[..]
            && gain(&before, &step) >= gain(&before, &last)
        {
            kept.pop();
        }
        // Of equal size, the cheaper one.
        if kept.last().is_some_and(|last| last.n_bytes == step.n_bytes) {
            kept.pop();
        }
        kept.push(step);
    }
    kept
}

/// What a step from one format to a larger one wins per byte.
fn gain(from: &Step, to: &Step) -> f64 {
    (from.cost - to.cost) / (to.n_bytes.saturating_sub(from.n_bytes)).max(1) as f64
}

/// A step of each hull, with no more bytes than `room` in all; `None` if even the smallest do not fit.
pub(super) fn within(hulls: &[Vec<Step>], room: u64) -> Option<Vec<Step>> {
    let mut at = vec![0; hulls.len()];
    let smallest: u64 = hulls.iter().filter_map(|steps| steps.first()).map(|step| step.n_bytes).sum();
    let mut left = room.checked_sub(smallest)?;
    loop {
        let next = hulls.iter().zip(&at).enumerate().filter_map(|(matrix, (steps, &at))| {
            let (now, next) = (steps.get(at)?, steps.get(at + 1)?);
            let n_bytes = next.n_bytes - now.n_bytes;
            (n_bytes <= left).then_some((matrix, n_bytes, gain(now, next)))
        });
        let Some((matrix, n_bytes, _)) = next.max_by(|a, b| a.2.total_cmp(&b.2)) else { break };
        at[matrix] += 1;
        left -= n_bytes;
    }
    hulls.iter().zip(at).map(|(steps, at)| steps.get(at).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(n_bytes: u64, cost: f64) -> Step {
        Step { format: DType::Q8_0, n_bytes, cost }
    }

    #[test]
    fn only_what_is_worth_its_bytes_is_left() {
        for (steps, expected) in [
            (vec![(1, 9.0), (2, 4.0), (3, 1.0)], vec![1, 2, 3]),
            // Larger and no better.
            (vec![(1, 9.0), (2, 9.0), (3, 1.0)], vec![1, 3]),
            // The step over it wins more per byte.
            (vec![(1, 9.0), (2, 8.5), (3, 1.0)], vec![1, 3]),
            (vec![(2, 5.0), (2, 4.0)], vec![2]),
            (vec![(2, f64::NAN), (3, 4.0)], vec![3]),
            (vec![(1, 10.0), (2, 8.0), (3, 5.0), (4, 0.0)], vec![1, 4]),
        ] {
            let got = hull(steps.iter().map(|&(n, cost)| step(n, cost)).collect());
            assert_eq!(got.iter().map(|step| step.n_bytes).collect::<Vec<_>>(), expected, "{steps:?}");
        }
    }

    #[test]
    fn bytes_go_where_they_win_most() {
        let a = hull(vec![step(10, 100.0), step(20, 10.0), step(30, 5.0)]);
        let b = hull(vec![step(10, 50.0), step(20, 20.0), step(30, 0.0)]);
        for (room, expected) in [
            (19, None),
            (20, Some((10, 10))),
            (30, Some((20, 10))),
            (40, Some((20, 20))),
            (50, Some((20, 30))),
            (99, Some((30, 30))),
        ] {
            let got = within(&[a.clone(), b.clone()], room).map(|steps| (steps[0].n_bytes, steps[1].n_bytes));
            assert_eq!(got, expected, "{room}");
        }
    }

    #[test]
    fn no_choice_within_the_bytes_is_better_where_steps_are_equal() {
        // Against every combination.
        let hulls: Vec<Vec<Step>> = (0..5u32)
            .map(|i| {
                let weight = f64::from(1 + i * i);
                hull((0..4u32).map(|k| step(u64::from(k), weight / f64::from(4u32.pow(k)))).collect())
            })
            .collect();
        for room in 0..=15 {
            let got: f64 =
                within(&hulls, room).map_or(f64::NAN, |steps| steps.iter().map(|step| step.cost).sum());
            let mut best = f64::INFINITY;
            for code in 0..4usize.pow(5) {
                let picked: Vec<Step> = (0..5).map(|i| hulls[i][code / 4usize.pow(i as u32) % 4]).collect();
                if picked.iter().map(|step| step.n_bytes).sum::<u64>() <= room {
                    best = best.min(picked.iter().map(|step| step.cost).sum());
                }
            }
            assert!((got - best).abs() < 1e-9, "{room}: {got}, but {best} is possible");
        }
    }
}
