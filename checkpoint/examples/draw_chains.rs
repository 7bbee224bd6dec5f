//! Draws `docs/chains.svg`, the README's picture of how chains work:
//!
//!     cargo run -p colm-checkpoint --example draw_chains > docs/chains.svg
//!
//! The left half shows the submatrices of a linear layer, the right half the rows that each chain computes in a prompt.

use std::fmt::Write;

use colm_checkpoint::Chains;

const COLORS: [&str; 4] = ["#1b6ca8", "#2a9d8f", "#e9a23b", "#d1495b"];
const NONE: &str = "#eceff1";
const INK: &str = "#37474f";
const SIDE: usize = 240;
const ROWS: usize = 8;
const TOP: usize = 70;

fn main() {
    let chains = Chains::new(vec![1, 1, 1, 1]).expect("four equal chains");
    let width = chains.split("hidden_size", SIDE).expect("a width divisible by four");
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 400\" \
         font-family=\"Helvetica, Arial, sans-serif\" font-size=\"14\">\n",
    );
    rect(&mut svg, 0, 0, 860, 400, "#ffffff");

    // A linear layer: chain i of the output (rows) reads chains 1 to i of the input (columns).
    text(&mut svg, 40, 28, "A linear layer: chain i reads chains 1 to i", true);
    let left = 80;
    for (i, color) in COLORS.iter().enumerate() {
        for j in 0..width.count() {
            let color = if j <= i { color } else { NONE };
            let (x, y) = (left + width.range(j).start, TOP + width.range(i).start);
            rect(&mut svg, x, y, width.of(j) - 2, width.of(i) - 2, color);
        }
        text(&mut svg, left + width.range(i).start + 22, TOP - 8, &format!("x{}", i + 1), false);
        text(&mut svg, left - 30, TOP + width.range(i).start + 35, &format!("y{}", i + 1), false);
    }
    let notes = [
        "k chains use the colored submatrices in rows 1 to k:",
        "1, 3, 6, 10 of 16 for k = 1, 2, 3, 4.",
        "One file per chain, one checkpoint, four models.",
    ];
    for (line, note) in notes.iter().enumerate() {
        text(&mut svg, 40, TOP + SIDE + 28 + 20 * line, note, false);
    }

    // Prefix-chain prefill: the rows (columns of the picture) on which each chain is active.
    text(&mut svg, 450, 28, "CoLM-Air prefills a prompt with chain 1 alone", true);
    let (left, cell) = (520, 36);
    for (i, color) in COLORS.iter().enumerate() {
        for row in 0..ROWS {
            let active = i == 0 || row == ROWS - 1;
            let color = if active { color } else { NONE };
            rect(
                &mut svg,
                left + row * cell,
                TOP + width.range(i).start,
                cell - 2,
                width.of(i) - 2,
                color,
            );
        }
        text(
            &mut svg,
            left - 66,
            TOP + width.range(i).start + 35,
            &format!("chain {}", i + 1),
            false,
        );
    }
    text(&mut svg, left, TOP - 8, "prompt tokens", false);
    text(&mut svg, left + (ROWS - 1) * cell + 2, TOP - 8, "last", false);
    let notes = [
        "Keys and values come from chain 1 only, so later chains",
        "run only where logits are needed: the same logits for",
        "about 1/10 of the multiply-adds. All k share a KV cache.",
    ];
    for (line, note) in notes.iter().enumerate() {
        text(&mut svg, 450, TOP + SIDE + 28 + 20 * line, note, false);
    }
    svg.push_str("</svg>");
    println!("{svg}");
}

fn rect(svg: &mut String, x: usize, y: usize, width: usize, height: usize, fill: &str) {
    writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>"
    )
    .expect("writing to a string cannot fail");
}

fn text(svg: &mut String, x: usize, y: usize, words: &str, bold: bool) {
    let weight = if bold { "bold" } else { "normal" };
    writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" fill=\"{INK}\" font-weight=\"{weight}\">{words}</text>"
    )
    .expect("writing to a string cannot fail");
}
