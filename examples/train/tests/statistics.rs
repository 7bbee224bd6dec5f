//! Mean and spread.

use colm_train::statistics::Summary;

#[test]
fn of_some_numbers() {
    let summary = Summary::of(&[2., 4., 9.]).unwrap();
    assert_eq!((summary.mean, summary.runs), (5., 3));
    // The deviations -3, -1, 4: sqrt((9 + 1 + 16) / 2).
    assert!((summary.spread.unwrap() - 13f64.sqrt()).abs() < 1e-12);
}

#[test]
fn one_number_has_no_spread_and_none_has_no_mean() {
    let alone = Summary::of(&[7.]).unwrap();
    assert_eq!((alone.mean, alone.spread, alone.runs), (7., None, 1));
    assert_eq!(Summary::of(&[]), None);
}
