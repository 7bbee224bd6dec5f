//! The tables in docs/study/README.md have the values of the CSV files beside it.

use std::path::PathBuf;

use colm_testing::table::Table;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/study")
}

fn readme() -> String {
    std::fs::read_to_string(folder().join("README.md")).unwrap()
}

/// The table between the markers of `name`.
fn shown(readme: &str, name: &str) -> String {
    let begin = format!("<!-- {name} -->\n\n");
    let end = format!("\n<!-- end of {name} -->");
    let rest = readme.split_once(&begin).unwrap_or_else(|| panic!("no {begin}")).1;
    rest.split_once(&end).unwrap_or_else(|| panic!("no {end}")).0.into()
}

#[test]
fn tables_without_spread_are_the_csv_files() {
    for name in ["setting", "identity"] {
        let mut csv = csv::Reader::from_path(folder().join(format!("{name}.csv"))).unwrap();
        let mut table = Table::new(csv.headers().unwrap());
        for row in csv.records() {
            table.push(row.unwrap().iter().map(String::from));
        }
        assert_eq!(shown(&readme(), name), table.markdown());
    }
}

#[test]
fn means_and_spreads_are_those_of_the_csv_files() {
    for name in ["against_dense", "growth", "air_against_colm", "chain_tuning"] {
        let mut stored = Vec::new();
        let mut csv = csv::Reader::from_path(folder().join(format!("{name}.csv"))).unwrap();
        let header = csv.headers().unwrap().clone();
        for row in csv.records() {
            let row = row.unwrap();
            let value = |column: &str| -> f64 {
                row[header.iter().position(|name| name == column).unwrap()].parse().unwrap()
            };
            // Losses have three decimals in the README, and percentages one.
            stored.push((value("loss"), value("loss spread"), 1e-3));
            stored.push((100. * value("exact"), 100. * value("exact spread"), 0.1));
        }
        let shown = shown(&readme(), name);
        let cells = shown.split('|').filter_map(|cell| cell.trim().split_once(" ± "));
        let cells: Vec<(f64, f64)> =
            cells.map(|(mean, spread)| (mean.parse().unwrap(), spread.parse().unwrap())).collect();
        assert!(cells.len() > 10, "{name}: {cells:?}");
        // Differences of losses, which are negative, are not in the CSV file.
        for (mean, spread) in cells.into_iter().filter(|(mean, _)| *mean >= 0.) {
            let same = |(m, s, unit): &(f64, f64, f64)| {
                (mean - m).abs() < 0.51 * unit && (spread - s).abs() < 0.51 * unit
            };
            assert!(stored.iter().any(same), "{name}: {mean} ± {spread} is not in the CSV file");
        }
    }
}
