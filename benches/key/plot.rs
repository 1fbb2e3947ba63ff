//! A drawing of cost against size, both logarithmic, as SVG.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 300.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 10] = [
    "#d62728", "#1f77b4", "#9ecae1", "#2ca02c", "#ff7f0e", "#bbbbbb", "#888888", "#17becf",
    "#8c564b", "#9467bd",
];

/// Points in seconds and files, by contender.
#[derive(Default)]
pub(crate) struct Plot {
    lines: Vec<(&'static str, BTreeMap<usize, f64>)>,
}

impl Plot {
    pub(crate) fn add(&mut self, name: &'static str, files: usize, time: Duration) {
        let place = self.lines.iter().position(|(known, _)| *known == name);
        let place = place.unwrap_or_else(|| {
            self.lines.push((name, BTreeMap::new()));
            self.lines.len() - 1
        });
        self.lines[place].1.insert(files, time.as_secs_f64());
    }

    pub(crate) fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values
                .map(f64::log10)
                .fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
            (low.floor(), high.ceil().max(low.floor() + 1.0))
        };
        let (left, right) = range(&mut points().map(|(files, _)| *files as f64));
        let (bottom, top) = range(&mut points().map(|(_, seconds)| *seconds));
        let x =
            |files: f64| LEFT + (files.log10() - left) / (right - left) * (WIDTH - LEFT - RIGHT);
        let y = |seconds: f64| {
            HEIGHT - BOTTOM - (seconds.log10() - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)
        };

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let text = |x: f64, y: f64, anchor: &str, text: &str| {
            format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{text}</text>\n")
        };
        for power in bottom as i32..=top as i32 {
            let (at, end) = (y(10f64.powi(power)), WIDTH - RIGHT);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.0}H{end}\" stroke=\"#dddddd\" fill=\"none\"/>"
            );
            let label = match power {
                ..0 => format!("{} ms", 10f64.powi(power + 3)),
                _ => format!("{} s", 10f64.powi(power)),
            };
            svg += &text(LEFT - 8.0, at + 4.0, "end", &label);
        }
        for power in left as i32..=right as i32 {
            let files = 10f64.powi(power);
            svg += &text(x(files), HEIGHT - BOTTOM + 20.0, "middle", &format!("{files}"));
        }
        svg += &text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0, "middle", "files in the context");

        // Names stand where the lines end, moved apart.
        let end = |points: &BTreeMap<usize, f64>| {
            points.last_key_value().map_or((0.0, 0.0), |(files, s)| (x(*files as f64), y(*s)))
        };
        let mut order: Vec<usize> = (0..self.lines.len()).collect();
        order.sort_by(|a, b| end(&self.lines[*a].1).1.total_cmp(&end(&self.lines[*b].1).1));
        let mut free = TOP;
        for index in order {
            let (name, points) = &self.lines[index];
            let colour = COLOURS[index % COLOURS.len()];
            let path: Vec<String> = points
                .iter()
                .map(|(files, seconds)| format!("{:.1} {:.1}", x(*files as f64), y(*seconds)))
                .collect();
            let _ = writeln!(
                svg,
                "<path d=\"M{}\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\"/>",
                path.join("L")
            );
            let at = end(points).1.max(free);
            free = at + 16.0;
            let _ = writeln!(svg, "<g fill=\"{colour}\">");
            svg += &text(WIDTH - RIGHT + 12.0, at + 4.0, "start", name);
            svg += "</g>\n";
        }
        svg + "</svg>\n"
    }
}
