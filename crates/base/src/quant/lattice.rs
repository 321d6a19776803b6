//! Nearest points in a grid of vectors: what the encoders of the IQ1, IQ2 and IQ3 formats choose with.
//!
//! A vector is rounded to the levels of its values first, as if every combination of levels were a point. For each of these
//! combinations (6,561 or 4,096) the nearest points are listed once; the one of least weighted error among them is taken. So
//! the search is not exhaustive: a point that is far in plain distance may be nearest under lopsided weights.
//!
//! Everything is relative to a scale `s`: a point `q` stands for `s·q`.

/// Points that are listed for a combination of levels. With twice as many, encoding takes one and a half times as long, and the
/// error of rows of Qwen2.5-Coder 1.5B and SmolLM2 falls by at most four in a thousand.
const NEAR: usize = 16;

/// A grid of points with `V` values each.
pub(super) struct Lattice<const V: usize> {
    points: Vec<[f32; V]>,
    /// The combination that a point is, by point.
    codes: Vec<u16>,
    /// Nearest points, nearest first, by combination.
    near: Vec<[u16; NEAR]>,
    n_levels: usize,
    /// Where the nearest level changes.
    midpoints: Vec<f32>,
}

/// A point that was chosen for a vector `x` under weights `w`.
#[derive(Clone, Copy, Default)]
pub(super) struct Choice {
    pub(super) point: u16,
    /// `Σ w (s·q)² - 2 Σ w x s·q`: the weighted error less `Σ w x²`.
    pub(super) cost: f32,
}

/// The sums that a scale is solved from: the error of scale `s` is `Σ w x² - 2 s·xq + s²·qq`.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) xq: f32,
    pub(super) qq: f32,
}

impl Sums {
    /// The error of a scale, less `Σ w x²`.
    pub(super) fn cost(&self, s: f32) -> f32 {
        s * (s * self.qq - 2.0 * self.xq)
    }

    /// The scale of least error, and how much less than `Σ w x²` its error is.
    pub(super) fn solve(&self) -> (f32, f32) {
        if self.xq > 0.0 { (self.xq / self.qq, self.xq * self.xq / self.qq) } else { (0.0, 0.0) }
    }
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.xq += other.xq;
        self.qq += other.qq;
    }
}

impl<const V: usize> Lattice<V> {
    /// The grid of `points`, given by the indices of their `levels`, which ascend.
    pub(super) fn new(points: impl Iterator<Item = [u8; V]>, levels: &[f32]) -> Lattice<V> {
        let n_levels = levels.len();
        let indices: Vec<[u8; V]> = points.collect();
        let value = |index: &[u8; V]| index.map(|level| levels[usize::from(level)]);
        let points: Vec<[f32; V]> = indices.iter().map(value).collect();
        let code =
            |index: &[u8; V]| index.iter().fold(0, |code, level| code * n_levels + usize::from(*level));
        let near = (0..n_levels.pow(V as u32)).map(|combination| {
            let mut index = [0; V];
            let mut rest = combination;
            for level in index.iter_mut().rev() {
                *level = (rest % n_levels) as u8;
                rest /= n_levels;
            }
            nearest_points(&points, &value(&index))
        });
        Lattice {
            near: near.collect(),
            codes: indices.iter().map(|index| code(index) as u16).collect(),
            points,
            n_levels,
            midpoints: levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect(),
        }
    }

    /// The values of a point, before scaling.
    pub(super) fn point(&self, point: u16) -> &[f32; V] {
        &self.points[usize::from(point)]
    }

    /// The point nearest to `x`. With `flip` one value is met with the opposite sign: whichever costs least.
    #[inline(always)]
    pub(super) fn nearest(&self, x: &[f32; V], w: &[f32; V], s: f32, flip: bool) -> Choice {
        let mut levels = [0u8; V];
        let inverse = if s == 0.0 { 0.0 } else { 1.0 / s };
        for midpoint in &self.midpoints {
            for (level, x) in levels.iter_mut().zip(x) {
                *level += u8::from(x * inverse > *midpoint);
            }
        }
        let code = levels.iter().fold(0, |code, level| code * self.n_levels + usize::from(*level));
        // (s q)² w - 2 s q w x = q (q·square - twice).
        let square: [f32; V] = std::array::from_fn(|i| s * s * w[i]);
        let twice: [f32; V] = std::array::from_fn(|i| 2.0 * s * w[i] * x[i]);
        let cost = |point: u16| {
            let q = self.point(point);
            let mut terms: [f32; V] = std::array::from_fn(|i| q[i] * (q[i] * square[i] - twice[i]));
            let mut n = V / 2;
            while n > 0 {
                for i in 0..n {
                    terms[i] += terms[i + n];
                }
                n /= 2;
            }
            if flip {
                terms[0] + 2.0 * least::<V>(std::array::from_fn(|i| q[i] * twice[i]))
            } else {
                terms[0]
            }
        };
        let near = &self.near[code];
        let mut best = Choice { point: near[0], cost: cost(near[0]) };
        // Nothing is nearer than the combination itself.
        if flip || usize::from(self.codes[usize::from(near[0])]) != code {
            for point in &near[1..] {
                let cost = cost(*point);
                if cost < best.cost {
                    best = Choice { point: *point, cost };
                }
            }
        }
        best
    }

    /// The sums of `x` with a point; with `flip`, and the value whose sign it turned.
    pub(super) fn sums(&self, point: u16, x: &[f32; V], w: &[f32; V], flip: bool) -> (Sums, Option<usize>) {
        let q = self.point(point);
        let mut sums = Sums::default();
        for i in 0..V {
            sums.xq += w[i] * x[i] * q[i];
            sums.qq += w[i] * q[i] * q[i];
        }
        let turned = flip.then(|| turned(q, x, w));
        if let Some(i) = turned {
            sums.xq -= 2.0 * w[i] * x[i] * q[i];
        }
        (sums, turned)
    }
}

/// The value whose sign is turned at the least cost.
fn turned<const V: usize>(q: &[f32; V], x: &[f32; V], w: &[f32; V]) -> usize {
    let cost = |i: usize| w[i] * x[i] * q[i];
    (1..V).fold(0, |best, i| if cost(i) < cost(best) { i } else { best })
}

#[inline(always)]
fn least<const V: usize>(mut x: [f32; V]) -> f32 {
    let mut n = V / 2;
    while n > 0 {
        for i in 0..n {
            x[i] = if x[i + n] < x[i] { x[i + n] } else { x[i] };
        }
        n /= 2;
    }
    x[0]
}

/// The points of least distance to `x`, nearest first.
fn nearest_points<const V: usize>(points: &[[f32; V]], x: &[f32; V]) -> [u16; NEAR] {
    let (mut near, mut distances) = ([0; NEAR], [f32::INFINITY; NEAR]);
    for (point, values) in points.iter().enumerate() {
        let distance: f32 = values.iter().zip(x).map(|(q, x)| (q - x) * (q - x)).sum();
        if distance < distances[NEAR - 1] {
            let at = distances.partition_point(|other| *other <= distance);
            near.copy_within(at..NEAR - 1, at + 1);
            distances.copy_within(at..NEAR - 1, at + 1);
            (near[at], distances[at]) = (point as u16, distance);
        }
    }
    near
}
