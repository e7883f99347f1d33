//! The network that mixes forecasts beside the same network in PyTorch: a training step, and forecasts of many windows.
//!
//! Peers take turns in the same run, on batches of the same sizes. Wall time counts, because threads do. Only builds with link-time
//! optimisation, at least the compiler's default within a crate, count: with `lto = "off"` and several units what the kernel is made
//! of is not inlined, and it takes four times as long.

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cloudpulse_forecast::ensemble::Ensemble;
use cloudpulse_lstm::kernel::{self, Scratch};
use cloudpulse_lstm::optimiser::{AdamW, Settings, Step};
#[cfg(feature = "burn")]
use cloudpulse_lstm::reference::{Device, Reference};
use cloudpulse_lstm::{Inputs, Shape, Targets, Weights, corpus, member};
use cloudpulse_testkit::binary::workspace_root;
use serde_json::{Value, json};

use crate::table;

const TRAIN_WINDOWS: usize = 256;
const INFER_WINDOWS: usize = 10_000;
const QUERIES: usize = corpus::QUERIES;
const THREADS: [usize; 2] = [1, 2];
/// Turns of each peer, and repetitions in a turn; their median stands for the turn.
const ROUNDS: usize = 9;
const REPEAT: usize = 5;
/// Pause after each turn. PyTorch's OpenMP threads spin for a while when their work is done, on the core that the other needs.
const PAUSE: Duration = Duration::from_millis(500);
/// PyTorch takes at least this many times longer.
const MIN_RATIO: f64 = 1.0;

/// Runs the comparison and prints it.
///
/// # Errors
/// When PyTorch is installed but fails. Where it is not there that is said.
pub(crate) fn run() -> anyhow::Result<()> {
    let shape = member::shape(&Ensemble::default(), true);
    table::line(&format!(
        "\nMixing network: {} weights, {} tokens, {QUERIES} queries a window; wall time",
        shape.count(),
        shape.tokens()
    ));
    let heading = ["what", "threads", "ours", "PyTorch", "ratio", "burn"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let mut least = f64::INFINITY;
    let (train, infer) = (Drawn::new(&shape, TRAIN_WINDOWS), Drawn::new(&shape, INFER_WINDOWS));
    for threads in THREADS {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let mut torch = Torch::start(&shape, threads)?;
        for (request, drawn) in [("train", &train), ("infer", &infer)] {
            let mut work = Work::new(drawn, request == "train")?;
            pool.install(|| work.run())?;
            let (mut own, mut peer, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let seconds = pool.install(|| median(|| work.run()))?;
                own.push(seconds);
                std::thread::sleep(PAUSE);
                if let Some(torch) = torch.as_mut() {
                    let theirs = torch.measure(request)?;
                    ratios.push(theirs / seconds);
                    peer.push(theirs);
                    std::thread::sleep(PAUSE);
                }
            }
            let burn = if threads == 1 { burn(drawn, request == "train")? } else { String::new() };
            let (middle, low, high) = table::spread(&ratios);
            let (theirs, ratio) = match peer[..] {
                [] => ("skipped".to_owned(), String::new()),
                _ => (milliseconds(&peer), format!("{middle:.1}× ({low:.1}…{high:.1})")),
            };
            least = if peer.is_empty() { least } else { least.min(middle) };
            let what = match request {
                "train" => format!("training step, {TRAIN_WINDOWS} windows"),
                _ => format!("forecasts, {INFER_WINDOWS} windows"),
            };
            rows.push(vec![what, threads.to_string(), milliseconds(&own), theirs, ratio, burn]);
        }
    }
    table::print(&rows);
    table::line("  Medians, with the least and most of the turns. Training is loss, gradient and a step of AdamW.");
    table::line(
        "  burn's flex, for information, where built with --features burn: without the step, with as many threads as it likes.",
    );
    if least.is_finite() {
        let verdict = if least >= MIN_RATIO { "met" } else { "MISSED" };
        table::line(&format!("  bar: at least as fast as PyTorch throughout ({least:.1}×): {verdict}"));
    } else {
        table::line("  SKIPPED: PyTorch is not installed; run scripts/setup.sh bench-lstm");
    }
    Ok(())
}

/// Time of burn's flex for the same.
#[cfg(feature = "burn")]
fn burn(drawn: &Drawn, train: bool) -> anyhow::Result<String> {
    let reference = Reference::new(&Weights::init(drawn.shape.clone(), 1)?, &Device::flex());
    let seconds = median(|| {
        if train {
            drop(black_box(reference.gradient(&drawn.inputs(), &drawn.targets())?));
        } else {
            drop(black_box(reference.forward(&drawn.inputs())?));
        }
        Ok(())
    })?;
    Ok(milliseconds(&[seconds]))
}

#[cfg(not(feature = "burn"))]
#[allow(clippy::unnecessary_wraps, reason = "as the other one")]
fn burn(_drawn: &Drawn, _train: bool) -> anyhow::Result<String> {
    Ok("not built".to_owned())
}

fn milliseconds(seconds: &[f64]) -> String {
    let (middle, least, most) = table::spread(seconds);
    if seconds.len() == 1 {
        format!("{:.1} ms", middle * 1e3)
    } else {
        format!("{:.1} ms ({:.1}…{:.1})", middle * 1e3, least * 1e3, most * 1e3)
    }
}

/// Median wall time of some repetitions.
fn median(mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut seconds = Vec::with_capacity(REPEAT);
    for _ in 0..REPEAT {
        let started = Instant::now();
        run()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(table::spread(&seconds).0)
}

/// Our side of one request.
struct Work<'a> {
    drawn: &'a Drawn,
    train: bool,
    weights: Weights,
    optimiser: AdamW,
    scratch: Scratch,
    /// A gradient, or quantiles.
    output: Vec<f32>,
}

impl<'a> Work<'a> {
    fn new(drawn: &'a Drawn, train: bool) -> anyhow::Result<Self> {
        let shape = &drawn.shape;
        let weights = Weights::init(shape.clone(), 1)?;
        let optimiser = AdamW::new(Settings::default(), &weights);
        let count = if train { shape.count() } else { drawn.windows * QUERIES * shape.levels };
        Ok(Self { drawn, train, weights, optimiser, scratch: Scratch::default(), output: vec![0.0; count] })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let Self { drawn, weights, optimiser, scratch, output, .. } = self;
        if self.train {
            let loss = kernel::gradient(weights, &drawn.inputs(), &drawn.targets(), scratch, output)?;
            let step = optimiser.step(weights, loss.mean, output, 1e-3);
            anyhow::ensure!(matches!(step, Step::Taken { .. }), "the step was refused");
        } else {
            kernel::forward(weights, &drawn.inputs(), scratch, output)?;
        }
        black_box(output);
        Ok(())
    }
}

/// A drawn batch, a third of its anchors unknown.
#[derive(Debug)]
struct Drawn {
    shape: Shape,
    windows: usize,
    coarse: Vec<f32>,
    fine: Vec<f32>,
    window: Vec<f32>,
    query: Vec<f32>,
    anchor: Vec<f32>,
    known: Vec<f32>,
    quantile_anchor: Vec<f32>,
    quantile_known: Vec<f32>,
    target: Vec<f32>,
    weight: Vec<f32>,
}

impl Drawn {
    fn new(shape: &Shape, windows: usize) -> Self {
        let mut state = 1_u64;
        // Knuth's MMIX generator; its high bits do for filling arrays.
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
        };
        let mut draw = |count: usize| (0..count).map(|_| uniform()).collect::<Vec<f32>>();
        let rows = windows * QUERIES;
        let known = |drawn: Vec<f32>| drawn.into_iter().map(|value| f32::from(value > -0.33)).collect::<Vec<f32>>();
        let known_anchors = known(draw(rows * shape.anchors));
        let quantile_known = known(draw(rows * shape.quantile_anchors));
        let anchor = draw(known_anchors.len()).iter().zip(&known_anchors).map(|(value, known)| value * known).collect();
        let own = shape.quantile_anchors;
        let is_known = |at: usize| quantile_known[at / (own * shape.levels) * own + at % own];
        let quantile_anchor =
            draw(rows * shape.levels * own).into_iter().enumerate().map(|(at, value)| value * is_known(at));
        let quantile_anchor = quantile_anchor.collect();
        Self {
            shape: shape.clone(),
            windows,
            coarse: draw(windows * shape.coarse_tokens * shape.coarse_width),
            fine: draw(windows * shape.fine_tokens * shape.fine_width),
            window: draw(windows * shape.window),
            query: draw(rows * shape.query),
            anchor,
            known: known_anchors,
            quantile_anchor,
            quantile_known,
            target: draw(rows),
            weight: draw(rows).into_iter().map(|value| value + 1.0).collect(),
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            windows: self.windows,
            queries: QUERIES,
            coarse: &self.coarse,
            fine: &self.fine,
            window: &self.window,
            query: &self.query,
            anchor: &self.anchor,
            known: &self.known,
            quantile_anchor: &self.quantile_anchor,
            quantile_known: &self.quantile_known,
        }
    }

    fn targets(&self) -> Targets<'_> {
        Targets { target: &self.target, weight: &self.weight }
    }
}

/// A running `bench/lstm_torch.py`. Dropping it ends it.
#[derive(Debug)]
struct Torch {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Torch {
    /// Starts PyTorch and waits until it is warm; `None` where it is not installed.
    fn start(shape: &Shape, threads: usize) -> anyhow::Result<Option<Self>> {
        let root = workspace_root();
        let python = root.join("target/bench/torch/bin/python");
        if !python.exists() {
            return Ok(None);
        }
        let file = root.join("target/bench/lstm.json");
        let config = json!({
            "anchors": shape.anchors,
            "quantile_anchors": shape.quantile_anchors,
            "query": shape.query,
            "window": shape.window,
            "coarse_tokens": shape.coarse_tokens,
            "coarse_width": shape.coarse_width,
            "fine_tokens": shape.fine_tokens,
            "fine_width": shape.fine_width,
            "embed": shape.embed,
            "hidden": shape.hidden,
            "width": shape.width,
            "levels": shape.levels,
            "recurrent": shape.recurrent,
            "queries": QUERIES,
            "train_windows": TRAIN_WINDOWS,
            "infer_windows": INFER_WINDOWS,
        });
        std::fs::write(&file, config.to_string())?;
        let mut process = Command::new(&python)
            .arg(root.join("bench/lstm_torch.py"))
            .arg("--config")
            .arg(&file)
            .args(["--threads", &threads.to_string(), "--repeat", &REPEAT.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take().context("no way to write to Python")?;
        let answers = BufReader::new(process.stdout.take().context("no way to read from Python")?);
        let mut torch = Self { process, requests, answers };
        torch.line()?;
        Ok(Some(torch))
    }

    /// Median wall time of a turn.
    fn measure(&mut self, request: &str) -> anyhow::Result<f64> {
        writeln!(self.requests, "{request}")?;
        let answer: Value = serde_json::from_str(&self.line()?)?;
        let seconds: Vec<f64> = answer["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        anyhow::ensure!(!seconds.is_empty(), "no seconds in Python's answer");
        Ok(table::spread(&seconds).0)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.answers.read_line(&mut line)? > 0, "bench/lstm_torch.py has ended");
        Ok(line)
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
