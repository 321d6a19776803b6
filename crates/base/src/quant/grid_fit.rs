//! The searches of the IQ1, IQ2 and IQ3 encoders, in which eight values at a time share one or two points of a grid
//! ([`super::lattice`]) and a group of eights shares an odd multiple of the block's scale.
//!
//! First every group finds its own scale among candidates, then the block's scale and the groups' codes are fitted in turns,
//! with new points each time. Nothing is settled by rounding alone: each candidate is judged by the points that it leads to.

use super::fit;
use super::lattice::{Choice, Lattice, Sums};

/// Turns of codes and block scale; later ones hardly change anything.
const ROUNDS: usize = 3;

/// Scales that are tried for a group, relative to the one under which the largest value meets the highest level.
const CANDIDATES: [f32; 9] = [0.42, 0.5, 0.58, 0.66, 0.75, 0.84, 0.92, 1.0, 1.1];

/// A group's own best scale. `sums` chooses points under a scale; `peak` is the largest magnitude, `low` and `high` the least
/// and the largest level.
pub(super) fn own_scale(peak: f32, (low, high): (f32, f32), sums: impl Fn(f32) -> Sums) -> f32 {
    if peak == 0.0 {
        return 0.0;
    }
    let (mut best, mut best_gain) = (peak / high, 0.0);
    // The last is for a group whose values are all alike.
    let candidates = CANDIDATES.iter().map(|ratio| ratio * peak / high).chain([peak / low]);
    for candidate in candidates {
        let (scale, gain) = sums(candidate).solve();
        if gain > best_gain {
            (best, best_gain) = (scale, gain);
        }
    }
    best
}

/// A block's scale, of which a group takes `2·code + 1` times.
pub(super) struct OddScales<const G: usize> {
    pub(super) d: f32,
    pub(super) codes: [u8; G],
}

/// The scale of a group.
pub(super) fn odd(d: f32, code: u8) -> f32 {
    d * f32::from(2 * code + 1)
}

/// Fits codes up to `top`, and a block's scale of which `f16` holds the `1 / unit`-fold, from the groups' own scales; `None` if
/// it is too large for that. `sums` chooses points for a group under a scale.
pub(super) fn odd_scales<const G: usize>(
    mut own: [f32; G],
    top: u8,
    unit: f32,
    sums: impl Fn(usize, f32) -> Sums,
) -> Option<OddScales<G>> {
    let storable = |d: f32| fit::storable(d / unit) * unit;
    let mut d = storable(own.iter().fold(0.0, |max: f32, own| max.max(*own)) / odd(1.0, top));
    if !d.is_finite() {
        return None;
    }
    let mut best = OddScales { d, codes: [0; G] };
    let mut best_cost = f32::INFINITY;
    let mut codes = [0; G];
    for _ in 0..ROUNDS {
        let (mut cost, mut all) = (0.0, Sums::default());
        for g in 0..G {
            let centre = if d == 0.0 { 0.0 } else { ((own[g] / d - 1.0) / 2.0).round() };
            let centre = centre.clamp(0.0, f32::from(top)) as u8;
            let mut least = (f32::INFINITY, Sums::default());
            for code in centre.saturating_sub(1)..=(centre + 1).min(top) {
                let s = odd(d, code);
                let sums = sums(g, s);
                if sums.cost(s) < least.0 {
                    least = (sums.cost(s), sums);
                    codes[g] = code;
                }
            }
            cost += least.0;
            own[g] = least.1.solve().0;
            let multiple = odd(1.0, codes[g]);
            all += Sums { xq: multiple * least.1.xq, qq: multiple * multiple * least.1.qq };
        }
        if cost < best_cost {
            best_cost = cost;
            best = OddScales { d, codes };
        }
        let next = storable(all.solve().0);
        if next == d || next == 0.0 || !next.is_finite() {
            break;
        }
        d = next;
    }
    Some(best)
}

/// A format of magnitudes and signs: eight values take one point of eight or two of four.
pub(super) struct Magnitudes<const V: usize> {
    lattice: Lattice<V>,
    levels: (f32, f32),
    /// What a level is multiplied with beside the scales.
    unit: f32,
    /// Whether the number of negative signs in eight values is even, so that seven bits tell all.
    even: bool,
}

/// Eight values as they are stored: the points, of which formats with eight values to a point use the first, and a bit per
/// negative value.
#[derive(Clone, Copy, Default)]
pub(super) struct Eight {
    pub(super) points: [u16; 2],
    pub(super) signs: u8,
}

/// A block as it is stored: a code per group.
pub(super) struct MagnitudeBlock<const G: usize> {
    pub(super) d: f32,
    pub(super) codes: [u8; G],
    pub(super) eights: [Eight; 32],
}

/// Eight values that points are sought for.
#[derive(Clone, Copy)]
struct Target {
    x: [f32; 8],
    w: [f32; 8],
    /// The signs that must be stored, and whether one of them has to be turned first.
    signs: u8,
    flip: bool,
}

impl<const V: usize> Magnitudes<V> {
    pub(super) fn new(
        points: impl Iterator<Item = [u8; V]>,
        levels: &[f32],
        unit: f32,
        even: bool,
    ) -> Magnitudes<V> {
        let lattice = Lattice::new(points, levels);
        Magnitudes { lattice, levels: (levels[0], levels[levels.len() - 1]), unit, even }
    }

    /// Fits a block of `G` groups, whose scale codes are of four bits; `None` if its scale is too large for `f16`.
    pub(super) fn fit<const G: usize>(
        &self,
        x: &[f32; 256],
        importance: Option<&[f32; 256]>,
    ) -> Option<MagnitudeBlock<G>> {
        let w = fit::weights(x, importance);
        let targets: [Target; 32] = std::array::from_fn(|i| {
            let (x, w) = (x.as_chunks::<8>().0[i], w.as_chunks::<8>().0[i]);
            let signs = (0..8).fold(0, |signs, i| signs | u8::from(x[i] < 0.0) << i);
            Target { x: x.map(f32::abs), w, signs, flip: self.even && signs.count_ones() % 2 == 1 }
        });
        let group = |g: usize| &targets[g * 32 / G..(g + 1) * 32 / G];
        let sums = |g: usize, s: f32| {
            let mut all = Sums::default();
            for target in group(g) {
                all += self.choose(target, s).0;
            }
            all
        };
        let own = std::array::from_fn(|g| {
            let peak = group(g).iter().flat_map(|target| target.x).fold(0.0, f32::max);
            own_scale(peak, self.levels, |s| sums(g, s))
        });
        let OddScales { d, codes } = odd_scales::<G>(own, 15, self.unit, sums)?;
        let mut eights = [Eight::default(); 32];
        for (i, (eight, target)) in eights.iter_mut().zip(&targets).enumerate() {
            *eight = self.choose(target, odd(d, codes[i * G / 32])).1;
        }
        Some(MagnitudeBlock { d: d / self.unit, codes, eights })
    }

    /// The points of least error under a scale.
    fn choose(&self, target: &Target, s: f32) -> (Sums, Eight) {
        let (x, w) = (target.x.as_chunks::<V>().0, target.w.as_chunks::<V>().0);
        let n_parts = 8 / V;
        let find = |part: usize, flip| self.lattice.nearest(&x[part], &w[part], s, flip);
        let mut choices = [Choice::default(); 2];
        // The part in which a sign is turned: where it costs less.
        let mut flipped = usize::MAX;
        if n_parts == 1 {
            choices[0] = find(0, target.flip);
            flipped = if target.flip { 0 } else { flipped };
        } else {
            choices = [find(0, false), find(1, false)];
            if target.flip {
                let turned = [find(0, true), find(1, true)];
                flipped = usize::from(turned[1].cost - choices[1].cost < turned[0].cost - choices[0].cost);
                choices[flipped] = turned[flipped];
            }
        }
        let mut eight = Eight { points: [choices[0].point, choices[1].point], signs: target.signs };
        let mut all = Sums::default();
        for part in 0..n_parts {
            let (sums, turned) = self.lattice.sums(choices[part].point, &x[part], &w[part], part == flipped);
            all += sums;
            if let Some(i) = turned {
                eight.signs ^= 1 << (part * V + i);
            }
        }
        (all, eight)
    }
}
