//! The way back through a block: from the gradient by its outputs to that by the weights, with what the way forth left behind.

use super::{Buffers, Network, fit};
use crate::batch::Inputs;
use crate::kernel::elementwise::{CellSlope, SiluSlope};
use crate::kernel::matmul::{ColumnSums, Gram, Matrix, Product, Start};
use crate::shape::{Linear, Shape};

/// Weight matrices turned, for the way back.
#[derive(Clone, Debug, Default)]
pub(in crate::kernel) struct Turned {
    lstm: Vec<f32>,
    state: Vec<f32>,
    deep: Vec<f32>,
    out: Vec<f32>,
}

impl Turned {
    pub(in crate::kernel) fn fill(&mut self, network: &Network<'_>) {
        let Network { shape, layout, weights, .. } = *network;
        turn(&weights[layout.lstm.weight.clone()], 4 * shape.hidden, &mut self.lstm);
        turn(&weights[layout.state.clone()], shape.width, &mut self.state);
        turn(&weights[layout.deep.weight.clone()], shape.width, &mut self.deep);
        turn(&weights[layout.out.weight.clone()], shape.outputs(), &mut self.out);
    }
}

fn turn(matrix: &[f32], columns: usize, turned: &mut Vec<f32>) {
    turned.resize(matrix.len(), 0.0);
    let rows = matrix.len() / columns;
    for (at, row) in matrix.chunks_exact(columns).enumerate() {
        for (column, value) in row.iter().enumerate() {
            turned[column * rows + at] = *value;
        }
    }
}

/// Gradients by what a block computes.
#[derive(Clone, Debug, Default)]
pub(super) struct Back {
    deep: Vec<f32>,
    deep_sum: Vec<f32>,
    state: Vec<f32>,
    cell: Vec<f32>,
    token_state: Vec<f32>,
    token: Vec<f32>,
}

impl Back {
    pub(super) fn fit(&mut self, shape: &Shape, windows: usize, rows: usize) {
        fit(&mut self.deep, rows * shape.width);
        fit(&mut self.deep_sum, rows * shape.width);
        if shape.recurrent {
            fit(&mut self.state, windows * shape.hidden);
            fit(&mut self.cell, windows * shape.hidden);
            fit(&mut self.token_state, windows * (shape.embed + shape.hidden));
            fit(&mut self.token, shape.tokens() * windows * shape.embed);
        }
    }
}

impl Buffers {
    /// From the gradient by the outputs to that by the last state.
    pub(super) fn head_backward(
        &mut self,
        network: &Network<'_>,
        turned: &Turned,
        inputs: &Inputs<'_>,
        gradient: &mut [f32],
    ) {
        let Network { arch, shape, layout, .. } = *network;
        let Inputs { windows, queries, .. } = *inputs;
        let (rows, width, outputs) = (windows * queries, shape.width, shape.outputs());
        let by_outputs = &self.outputs[..rows * outputs];
        let (entry, deep) = (&self.entry[..rows * width], &self.deep[..rows * width]);
        let by_linear = |gradient: &mut [f32], linear: &Linear, left: &[f32], columns: usize, right: &[f32]| {
            arch.dispatch(Gram {
                rows: width,
                inner: rows,
                columns,
                left: Matrix { values: left, stride: width },
                right: Matrix { values: right, stride: columns },
                output: &mut gradient[linear.weight.clone()],
            });
            arch.dispatch(ColumnSums { values: right, output: &mut gradient[linear.bias.clone()] });
        };
        by_linear(gradient, &layout.out, deep, outputs, by_outputs);
        let by_deep = &mut self.back.deep[..rows * width];
        let back = |left: &[f32], inner: usize, turned: &[f32], start: Start<'_>, output: &mut [f32]| {
            arch.dispatch(Product {
                rows,
                inner,
                columns: width,
                left: Matrix { values: left, stride: inner },
                right: Matrix { values: turned, stride: width },
                start,
                output,
                stride: width,
            });
        };
        back(by_outputs, outputs, &turned.out, Start::Zero, by_deep);
        let by_sum = &mut self.back.deep_sum[..rows * width];
        by_sum.copy_from_slice(by_deep);
        arch.dispatch(SiluSlope {
            gradient: by_sum,
            columns: width,
            sigmoid: &self.deep_sigmoid[..rows * width],
            result: Matrix { values: deep, stride: width },
            residual: entry,
        });
        by_linear(gradient, &layout.deep, entry, width, by_sum);
        // What reaches the entry directly, and through the deep layer.
        let by_entry = by_deep;
        back(by_sum, width, &turned.deep, Start::Output, by_entry);
        arch.dispatch(SiluSlope {
            gradient: by_entry,
            columns: width,
            sigmoid: &self.entry_sigmoid[..rows * width],
            result: Matrix { values: entry, stride: width },
            residual: &[],
        });
        arch.dispatch(Gram {
            rows: shape.query,
            inner: rows,
            columns: width,
            left: Matrix { values: inputs.query, stride: shape.query },
            right: Matrix { values: by_entry, stride: width },
            output: &mut gradient[layout.query.clone()],
        });
        let by_context = &mut self.context[..windows * width];
        by_context.fill(0.0);
        for (sum, rows) in by_context.chunks_exact_mut(width).zip(by_entry.chunks_exact(queries * width)) {
            arch.dispatch(ColumnSums { values: rows, output: sum });
        }
        arch.dispatch(ColumnSums { values: by_context, output: &mut gradient[layout.entry_bias.clone()] });
        let mut by_context_matrix = |left: Matrix<'_>, count: usize, range: std::ops::Range<usize>| {
            arch.dispatch(Gram {
                rows: count,
                inner: windows,
                columns: width,
                left,
                right: Matrix { values: by_context, stride: width },
                output: &mut gradient[range],
            });
        };
        let window = Matrix { values: inputs.window, stride: shape.window };
        by_context_matrix(window, shape.window, layout.window.clone());
        if shape.recurrent {
            let values = &self.token_state[Self::last_state(shape, windows, true)..];
            let state = Matrix { values, stride: shape.embed + shape.hidden };
            by_context_matrix(state, shape.hidden, layout.state.clone());
            arch.dispatch(Product {
                rows: windows,
                inner: width,
                columns: shape.hidden,
                left: Matrix { values: by_context, stride: width },
                right: Matrix { values: &turned.state, stride: shape.hidden },
                start: Start::Zero,
                output: &mut self.back.state[..windows * shape.hidden],
                stride: shape.hidden,
            });
        }
    }

    /// Back through time, from the gradient by the last state.
    pub(super) fn sequence_backward(
        &mut self,
        network: &Network<'_>,
        turned: &Turned,
        windows: usize,
        gradient: &mut [f32],
    ) {
        let Network { arch, shape, layout, .. } = *network;
        let (embed, hidden, steps) = (shape.embed, shape.hidden, shape.tokens());
        let (both, gate_count) = (embed + hidden, 4 * hidden);
        let by_cell = &mut self.back.cell[..windows * hidden];
        by_cell.fill(0.0);
        let by_both = &mut self.back.token_state[..windows * both];
        for step in (0..steps).rev() {
            let gates = &mut self.gates[step * windows * gate_count..][..windows * gate_count];
            let state_gradient = if step + 1 == steps {
                Matrix { values: &self.back.state[..windows * hidden], stride: hidden }
            } else {
                Matrix { values: &by_both[embed..], stride: both }
            };
            arch.dispatch(CellSlope {
                hidden,
                gates,
                cell_before: &self.cell_before[step * windows * hidden..][..windows * hidden],
                tanh: &self.tanh[step * windows * hidden..][..windows * hidden],
                state_gradient,
                cell_gradient: by_cell,
            });
            arch.dispatch(Product {
                rows: windows,
                inner: gate_count,
                columns: both,
                left: Matrix { values: gates, stride: gate_count },
                right: Matrix { values: &turned.lstm, stride: both },
                start: Start::Zero,
                output: by_both,
                stride: both,
            });
            let by_token = &mut self.back.token[step * windows * embed..][..windows * embed];
            for (token, both) in by_token.chunks_exact_mut(embed).zip(by_both.chunks_exact(both)) {
                token.copy_from_slice(&both[..embed]);
            }
            arch.dispatch(SiluSlope {
                gradient: by_token,
                columns: embed,
                sigmoid: &self.token_sigmoid[step * windows * embed..][..windows * embed],
                result: Matrix { values: &self.token_state[step * windows * both..], stride: both },
                residual: &[],
            });
        }
        let mut by_linear =
            |linear: &Linear, left: &[f32], count: usize, inner: usize, right: &[f32], columns: usize| {
                arch.dispatch(Gram {
                    rows: count,
                    inner,
                    columns,
                    left: Matrix { values: left, stride: count },
                    right: Matrix { values: right, stride: columns },
                    output: &mut gradient[linear.weight.clone()],
                });
                arch.dispatch(ColumnSums { values: right, output: &mut gradient[linear.bias.clone()] });
            };
        let gates = &self.gates[..steps * windows * gate_count];
        by_linear(&layout.lstm, &self.token_state, both, steps * windows, gates, gate_count);
        let (coarse, fine) = (shape.coarse_tokens * windows, shape.fine_tokens * windows);
        let (by_coarse, by_fine) = self.back.token[..(coarse + fine) * embed].split_at(coarse * embed);
        if coarse > 0 {
            by_linear(&layout.coarse, &self.coarse, shape.coarse_width, coarse, by_coarse, embed);
        }
        if fine > 0 {
            by_linear(&layout.fine, &self.fine, shape.fine_width, fine, by_fine, embed);
        }
    }
}
