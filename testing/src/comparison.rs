//! Comparisons of numbers.

/// The largest absolute value; NaN if one of the values is NaN, so that no bound accepts it. (`f32::max` and candle's
/// `max` skip NaN.)
///
/// # Panics
/// If there are no values.
pub fn largest_magnitude(values: impl IntoIterator<Item = f32>) -> f32 {
    // In this order NaN comes after all other absolute values.
    let largest = values.into_iter().map(f32::abs).max_by(f32::total_cmp);
    largest.expect("values to compare")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_values_count() {
        assert_eq!(largest_magnitude([1., -3., 2.]), 3.);
        assert_eq!(largest_magnitude([1., f32::NEG_INFINITY]), f32::INFINITY);
    }

    #[test]
    fn nan_is_the_largest_wherever_it_is() {
        for values in [[f32::NAN, 1.], [1., f32::NAN], [1., -f32::NAN], [f32::INFINITY, f32::NAN]] {
            assert!(largest_magnitude(values).is_nan(), "{values:?}");
        }
    }
}
