//! Series of measurements, and the ratios between them.

/// The measurements of one contender, in the order of the rounds.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds the measurement of a round.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; NaN where there is none.
    pub fn median(&self) -> f64 {
        median(self.0.clone())
    }

    /// The least.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The median over rounds of this one's measurement by the other's of the same round, which
    /// met the same machine.
    pub fn ratio(&self, other: &Self) -> f64 {
        median(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len().is_multiple_of(2) {
        (at(middle.wrapping_sub(1)) + at(middle)) / 2.0
    } else {
        at(middle)
    }
}

/// What a ratio is to reach.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Target {
    /// Whether a figure reaches it.
    pub fn reached(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "≤ {bound:.2}"),
            Self::AtLeast(bound) => write!(f, "≥ {bound:.2}"),
        }
    }
}

/// Prints a figure beside what it is to reach.
pub fn verdict(what: &str, value: f64, unit: &str, target: Target) {
    let reached = if target.reached(value) { "reached" } else { "MISSED" };
    println!("{what:<62} {value:>8.3} {unit:<4} target {target:<8} {reached}");
}

/// Prints the heading of a table of series.
pub fn heading(title: &str, unit: &str) {
    println!("\n{title} ({unit}; medians, least and largest)");
}

/// Prints a series as a line of a table.
pub fn line(name: &str, series: &Series) {
    println!(
        "  {name:<60} {:>9.1} {:>9.1} {:>9.1}   n={}",
        series.median(),
        series.min(),
        series.max(),
        series.len()
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]
    use super::*;

    fn series(values: &[f64]) -> Series {
        Series(values.to_vec())
    }

    #[test]
    fn medians_and_ratios() {
        assert_eq!(series(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(series(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert!(series(&[]).median().is_nan());
        // Round by round: 2, 1/2, 2; the ratio of the medians would be 1.
        assert_eq!(series(&[2.0, 1.0, 8.0]).ratio(&series(&[1.0, 2.0, 4.0])), 2.0);
        assert!(Target::AtMost(1.0).reached(1.0) && !Target::AtLeast(1.0).reached(0.9));
    }
}
