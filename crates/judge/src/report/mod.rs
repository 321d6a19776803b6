//! One page on several models, for people to look at: tables and plots in a single HTML file that fetches nothing.

mod plot;

use std::fmt::Write as _;

use crate::Estimate;
use plot::{Point, Series};

/// What is told of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelReport {
    /// What it is called.
    pub name: String,
    /// Architecture and format, for people.
    pub description: String,
    /// Parameters.
    pub n_params: u64,
    /// Bytes of its file.
    pub n_bytes: u64,
    /// Of all that the file stores.
    pub bits_per_weight: f64,
    /// Bytes in memory, at the context of the report.
    pub memory: u64,
    /// Of the text, where one was measured.
    pub perplexity: Option<Estimate>,
    /// Mean divergence from the first model, where that was measured.
    pub divergence: Option<Estimate>,
    /// Part of predictions with the first model's likeliest token, where that was measured.
    pub same_top: Option<Estimate>,
    /// Speeds by depth.
    pub speeds: Vec<Speed>,
}

/// How fast a model is behind a number of tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Tokens that stand before.
    pub depth: usize,
    /// Tokens of a prompt read in a second.
    pub prompt: f64,
    /// Tokens generated in a second.
    pub generate: f64,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What stands above.
    pub title: String,
    /// How it was measured, a line each.
    pub notes: Vec<String>,
    /// The models. Divergence is from the first.
    pub models: Vec<ModelReport>,
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid #ddd}td:not(:first-child){white-space:nowrap}th:first-child,td:first-child{text-align:left}\
svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#333}.axis{stroke:#999}.grid{stroke:#eee}\
.table{overflow-x:auto}footer{margin-top:2rem;color:#666;font-size:.85rem}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}svg text{fill:#ccc}.grid{stroke:#333}footer{color:#999}}";

impl Report {
    /// The page.
    pub fn to_html(&self) -> String {
        let title = escape(&self.title);
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n"
        );
        self.sizes(&mut html);
        let megabytes = |model: &ModelReport| model.n_bytes as f64 / 1e6;
        let points = |value: fn(&ModelReport) -> Option<Estimate>| -> Vec<Point> {
            let point = |(index, model): (usize, &ModelReport)| {
                let Estimate { value, error } = value(model)?;
                Some(Point { label: model.name.clone(), index, x: megabytes(model), y: value, error })
            };
            self.models.iter().enumerate().filter_map(point).collect()
        };
        let perplexities = points(|model| model.perplexity);
        if !perplexities.is_empty() {
            let plot = plot::scatter(&perplexities, "size of the file, MB", "perplexity (less is better)");
            section(&mut html, "Size against perplexity", &plot);
        }
        let divergences = points(|model| model.divergence);
        if !divergences.is_empty() {
            let plot =
                plot::scatter(&divergences, "size of the file, MB", "KL divergence, nats (less is better)");
            let first = self.models.first().map_or("", |model| &model.name);
            section(&mut html, &format!("Size against divergence from {first}"), &plot);
        }
        self.speeds(&mut html);
        html.push_str("<footer>");
        for note in &self.notes {
            let _ = write!(html, "<p>{}</p>", escape(note));
        }
        html.push_str("</footer>\n</html>\n");
        html
    }

    fn sizes(&self, html: &mut String) {
        let head = [
            "model",
            "parameters",
            "MB",
            "bits per weight",
            "memory, MB",
            "perplexity",
            "KL divergence",
            "same likeliest token",
        ];
        let estimate = |estimate: Option<Estimate>, scale: f64, places: usize, unit: &str| match estimate {
            Some(Estimate { value, error }) => {
                format!("{:.places$} ± {:.places$}{unit}", scale * value, scale * error)
            }
            None => String::new(),
        };
        let row = |model: &ModelReport| {
            [
                format!("<b>{}</b><br>{}", escape(&model.name), escape(&model.description)),
                format!("{:.1}M", model.n_params as f64 / 1e6),
                format!("{:.1}", model.n_bytes as f64 / 1e6),
                format!("{:.2}", model.bits_per_weight),
                format!("{:.1}", model.memory as f64 / 1e6),
                estimate(model.perplexity, 1.0, 3, ""),
                estimate(model.divergence, 1.0, 5, ""),
                estimate(model.same_top, 100.0, 2, " %"),
            ]
        };
        section(html, "Models", &table(&head, self.models.iter().map(|model| row(model).to_vec())));
    }

    fn speeds(&self, html: &mut String) {
        let series = |value: fn(&Speed) -> f64| -> Vec<Series> {
            let one = |(index, model): (usize, &ModelReport)| Series {
                name: model.name.clone(),
                index,
                points: model.speeds.iter().map(|speed| (speed.depth as f64, value(speed))).collect(),
            };
            self.models.iter().enumerate().filter(|(_, model)| !model.speeds.is_empty()).map(one).collect()
        };
        let (generate, prompt) = (series(|speed| speed.generate), series(|speed| speed.prompt));
        if generate.is_empty() {
            return;
        }
        let x = "tokens that stand before";
        section(
            html,
            "Speed of answers against depth",
            &plot::lines(&generate, x, "tokens generated in a second"),
        );
        section(html, "Speed of prompts against depth", &plot::lines(&prompt, x, "tokens read in a second"));
        let rows = self.models.iter().flat_map(|model| {
            model.speeds.iter().map(|speed| {
                let numbers = [format!("{:.1}", speed.prompt), format!("{:.1}", speed.generate)];
                [escape(&model.name), speed.depth.to_string()].into_iter().chain(numbers).collect()
            })
        });
        section(html, "Speeds", &table(&["model", "depth", "prompt tokens/s", "generated tokens/s"], rows));
    }
}

fn section(html: &mut String, title: &str, content: &str) {
    let _ = write!(html, "<h2>{}</h2>\n{content}\n", escape(title));
}

/// Cells are HTML.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut html = "<div class=\"table\"><table><tr>".to_owned();
    head.iter().for_each(|cell| html.push_str(&format!("<th>{cell}</th>")));
    html.push_str("</tr>\n");
    for row in rows {
        html.push_str("<tr>");
        row.iter().for_each(|cell| html.push_str(&format!("<td>{cell}</td>")));
        html.push_str("</tr>\n");
    }
    html + "</table></div>"
}

/// Text as HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, n_bytes: u64) -> ModelReport {
        let estimate = |value| Some(Estimate { value, error: 0.01 });
        ModelReport {
            name: name.to_owned(),
            description: "llama, Q4_K".to_owned(),
            n_params: 134_515_008,
            n_bytes,
            bits_per_weight: 4.9,
            memory: 200_000_000,
            perplexity: estimate(18.5),
            divergence: estimate(0.05),
            same_top: estimate(0.9),
            speeds: vec![
                Speed { depth: 0, prompt: 900.0, generate: 80.0 },
                Speed { depth: 512, prompt: 800.0, generate: 70.0 },
            ],
        }
    }

    #[test]
    fn a_page_is_whole_and_fetches_nothing() {
        let report = Report {
            title: "a < b".to_owned(),
            notes: vec!["measured & written".to_owned()],
            models: vec![model("one", 100_000_000), model("<script>alert(1)</script>", 90_000_000)],
        };
        let html = report.to_html();
        for expected in
            ["a &lt; b", "measured &amp; written", "134.5M", "18.500 ± 0.010", "90.00 ± 1.00 %", "800.0"]
        {
            assert!(html.contains(expected), "{expected}");
        }
        assert_eq!(html.matches("<svg").count(), 4);
        for absent in ["<script", "http:", "https:", "src=", "href=", "NaN", "inf"] {
            assert!(!html.contains(absent), "{absent}");
        }
        // Nothing was measured: tables alone.
        let bare = ModelReport {
            perplexity: None,
            divergence: None,
            same_top: None,
            speeds: vec![],
            ..model("one", 1)
        };
        let html = Report { models: vec![bare], ..report }.to_html();
        assert!(!html.contains("<svg") && html.contains("<table>"));
    }
}
