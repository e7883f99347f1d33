//! A family that is on the page only if it has a sample, and samples that come in another order than that of the page.

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

/// Writes HELP and TYPE before the first sample.
#[derive(Debug)]
pub(crate) struct Family<'n> {
    name: &'n str,
    help: &'n str,
    kind: Kind,
    begun: bool,
}

impl<'n> Family<'n> {
    pub(crate) const fn new(name: &'n str, help: &'n str, kind: Kind) -> Self {
        Self { name, help, kind, begun: false }
    }

    pub(crate) fn gauge(name: &'n str, help: &'n str) -> Self {
        Self::new(name, help, Kind::Gauge)
    }

    pub(crate) fn counter(name: &'n str, help: &'n str) -> Self {
        Self::new(name, help, Kind::Counter)
    }

    /// Writes a sample with labels that were rendered before.
    pub(crate) fn labelled(&mut self, page: &mut Page<'_>, labels: &Labels, value: Number) {
        self.begin(page);
        page.labelled(self.name, labels, value);
    }

    /// Writes a sample without labels.
    pub(crate) fn single(&mut self, page: &mut Page<'_>, value: Number) {
        self.begin(page);
        page.unlabelled(self.name, value);
    }

    /// Writes a sample of 1; labels with an empty value are left out.
    pub(crate) fn info(&mut self, page: &mut Page<'_>, labels: &[(&str, &str)]) {
        self.labelled(page, &Labels::new(labels), Number::Integer(1));
    }

    fn begin(&mut self, page: &mut Page<'_>) {
        if !self.begun {
            page.family(self.name, self.help, self.kind);
            self.begun = true;
        }
    }
}

/// Name, help and type of a family.
pub(crate) type Described = (&'static str, &'static str, Kind);

/// Samples that are read device by device and written family by family.
#[derive(Debug)]
pub(crate) struct Gathered {
    families: &'static [Described],
    samples: Vec<(usize, Labels, Number)>,
}

impl Gathered {
    pub(crate) const fn new(families: &'static [Described]) -> Self {
        Self { families, samples: Vec::new() }
    }

    /// Takes a sample of the family at `at` in the list.
    pub(crate) fn push(&mut self, at: usize, labels: &[(&str, &str)], value: Number) {
        self.samples.push((at, Labels::new(labels), value));
    }

    /// Writes the families that have samples, in the order of the list.
    pub(crate) fn write(&self, page: &mut Page<'_>) {
        if self.samples.is_empty() {
            return;
        }
        for (at, (name, help, kind)) in self.families.iter().enumerate() {
            let mut family = Family::new(name, help, *kind);
            for (_, labels, value) in self.samples.iter().filter(|(family, ..)| *family == at) {
                family.labelled(page, labels, *value);
            }
        }
    }
}
