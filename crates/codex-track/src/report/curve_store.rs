//! A curve of any length in bounded memory, which draws the same picture: of each stretch the first, least, greatest and last value, and the mean.

/// The most stretches that are held; then each takes twice as many values.
const MOST: usize = 2048;

/// A value and its place in the order in which they came.
#[derive(Clone, Copy, Debug)]
struct Point {
    idx: u64,
    x: f64,
    y: f64,
}

#[derive(Clone, Debug)]
struct Stretch {
    first: Point,
    last: Point,
    /// The least and greatest of the finite values.
    ends: Option<(Point, Point)>,
    sum: f64,
    n_finite: u64,
    n: u64,
}

impl Stretch {
    fn of(point: Point) -> Self {
        let is_finite = point.y.is_finite();
        let sum = if is_finite { point.y } else { 0.0 };
        Self { first: point, last: point, ends: is_finite.then_some((point, point)), sum, n_finite: u64::from(is_finite), n: 1 }
    }

    fn join(&mut self, other: &Self) {
        self.last = other.last;
        self.ends = match (self.ends, other.ends) {
            (Some((a_low, a_high)), Some((b_low, b_high))) => {
                Some((if b_low.y < a_low.y { b_low } else { a_low }, if b_high.y > a_high.y { b_high } else { a_high }))
            }
            (ends, None) | (None, ends) => ends,
        };
        self.sum += other.sum;
        self.n_finite += other.n_finite;
        self.n += other.n;
    }
}

/// The values of a curve as they come.
#[derive(Clone, Debug)]
pub(super) struct CurveStore {
    stretches: Vec<Stretch>,
    n_each: u64,
    n: u64,
}

impl Default for CurveStore {
    fn default() -> Self {
        Self { stretches: Vec::new(), n_each: 1, n: 0 }
    }
}

impl CurveStore {
    /// One more value.
    pub(super) fn push(&mut self, x: f64, y: f64) {
        let new = Stretch::of(Point { idx: self.n, x, y });
        self.n += 1;
        match self.stretches.last_mut().filter(|last| last.n < self.n_each) {
            Some(last) => last.join(&new),
            None => self.stretches.push(new),
        }
        if self.stretches.len() > MOST {
            self.n_each *= 2;
            let pairs = self.stretches.chunks(2).map(|pair| {
                let mut joined = pair[0].clone();
                pair.iter().skip(1).for_each(|next| joined.join(next));
                joined
            });
            self.stretches = pairs.collect();
        }
    }

    /// How many values each stretch has.
    pub(super) fn n_each(&self) -> usize {
        self.n_each as usize
    }

    /// The values that make the picture, in order; all of them as long as they are few.
    pub(super) fn points(&self) -> Vec<(f64, f64)> {
        let mut points = Vec::with_capacity(self.stretches.len());
        for stretch in &self.stretches {
            let ends = stretch.ends.into_iter().flat_map(|(low, high)| [low, high]);
            let mut chosen: Vec<Point> = [stretch.first, stretch.last].into_iter().chain(ends).collect();
            chosen.sort_by_key(|point| point.idx);
            chosen.dedup_by_key(|point| point.idx);
            points.extend(chosen.into_iter().map(|point| (point.x, point.y)));
        }
        points
    }

    /// The mean of each stretch, at its middle; a NaN where no value is finite.
    pub(super) fn means(&self) -> Vec<(f64, f64)> {
        self.stretches.iter().map(|it| (it.first.x / 2.0 + it.last.x / 2.0, it.sum / it.n_finite as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_are_all_kept_and_many_keep_their_ends_and_means() {
        let mut store = CurveStore::default();
        store.push(0.0, f64::NAN);
        store.push(1.0, 3.0);
        assert_eq!((store.points()[1], store.means()[1], store.n_each(), store.points().len()), ((1.0, 3.0), (1.0, 3.0), 1, 2));
        let mut store = CurveStore::default();
        for idx in 0..1_000_000_u32 {
            let spike = match idx {
                500_001 => 99.0,
                700_003 => -99.0,
                _ if idx % 8 == 0 => f64::NAN,
                _ => 1.0,
            };
            store.push(f64::from(idx), spike);
        }
        let points = store.points();
        assert!(store.stretches.len() <= MOST && points.len() <= 4 * MOST);
        assert!(points.contains(&(500_001.0, 99.0)) && points.contains(&(700_003.0, -99.0)));
        assert_eq!(points.last(), Some(&(999_999.0, 1.0)));
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let means = store.means();
        assert!(means.iter().all(|mean| mean.1 > 0.5 && mean.1 < 1.5), "the values that are not finite are in none");
    }
}
