//! Large numbers in readable units, with four digits.

/// A count, as in "1.100 G".
pub fn count(number: u128) -> String {
    scaled(number, ["", " k", " M", " G", " T", " P"])
}

/// A number of bytes in powers of 1,000, as in "2.201 GB".
pub fn bytes(number: u128) -> String {
    scaled(number, [" B", " kB", " MB", " GB", " TB", " PB"])
}

fn scaled(number: u128, units: [&str; 6]) -> String {
    if number < 1000 {
        return format!("{number}{}", units[0]);
    }
    let mut value = number as f64;
    let mut unit = 0;
    // 999.95 would round to four digits before the point.
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.;
        unit += 1;
    }
    let decimals = if value < 9.9995 {
        3
    } else if value < 99.995 {
        2
    } else {
        1
    };
    format!("{value:.decimals$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits_are_shown() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1.000 k");
        assert_eq!(count(1_100_048_384), "1.100 G");
        assert_eq!(count(10u128.pow(18)), "1000.0 P");
        assert_eq!(bytes(22_528), "22.53 kB");
        assert_eq!(bytes(999_960), "1.000 MB");
        assert_eq!(bytes(123_456_789), "123.5 MB");
    }
}
