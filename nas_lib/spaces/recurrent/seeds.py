"""Cells to start from: the plain recurrent network, GRU and LSTM (MOE/RNAS, section 3.1), and coRNN."""

from __future__ import annotations

from nas_lib.spaces.recurrent.cell import Activation, Block, Cell, Combination, Operand


def _act(activation: Activation, source: str) -> Block:
    return Block((source,), activation=activation)


def _of(combination: Combination, *inputs: Operand) -> Block:
    return Block(inputs, combination)


def _gate(name: str, activation: Activation) -> dict[str, Block]:
    """activation(W x + b + U h + b')."""
    return {
        f"wx_{name}": _act("linear_b", "x"),
        f"wh_{name}": _act("linear_b", "h"),
        f"s_{name}": _of("add", f"wx_{name}", f"wh_{name}"),
        name: _act(activation, f"s_{name}"),
    }


def basic(activation: Activation = "tanh") -> Cell:
    """h' = activation(W x + b + U h + b'), c' = c; 10 blocks."""
    return Cell(
        {
            "wx": _act("linear_b", "x"),
            "wh": _act("linear_b", "h"),
            "s": _of("add", "wx", "wh"),
            "a": _act(activation, "s"),
            "c_pass": Block(("c",)),
            "h_next": Block(("a",)),
            "c_next": Block(("c_pass",)),
        }
    )


def gru() -> Cell:
    """h' = (1 - z) n + z h with n = tanh(W x + b + r (U h + b')), as torch.nn.GRU; 23 blocks."""
    return Cell(
        {
            **_gate("r", "sigmoid"),
            **_gate("z", "sigmoid"),
            "wx_n": _act("linear_b", "x"),
            "wh_n": _act("linear_b", "h"),
            "rh": _of("elem_mul", "wh_n", "r"),
            "s_n": _of("add", "wx_n", "rh"),
            "n": _act("tanh", "s_n"),
            "zc": _of("sub", 1, "z"),
            "p": _of("elem_mul", "zc", "n"),
            "q": _of("elem_mul", "h", "z"),
            "hs": _of("add", "p", "q"),
            "c_pass": Block(("c",)),
            "h_next": Block(("hs",)),
            "c_next": Block(("c_pass",)),
        }
    )


def lstm() -> Cell:
    """c' = f c + i m, h' = tanh(c') o, as torch.nn.LSTM, whose g is m here; 26 blocks."""
    return Cell(
        {
            **_gate("i", "sigmoid"),
            **_gate("f", "sigmoid"),
            **_gate("o", "sigmoid"),
            **_gate("m", "tanh"),
            "fc": _of("elem_mul", "f", "c"),
            "im": _of("elem_mul", "i", "m"),
            "cs": _of("add", "fc", "im"),
            "t": _act("tanh", "cs"),
            "ho": _of("elem_mul", "t", "o"),
            "h_next": Block(("ho",)),
            "c_next": Block(("cs",)),
        }
    )


def cornn(step: float = 0.042, stiffness: float = 2.7, damping: float = 4.7) -> Cell:
    """Coupled oscillators (Rusch and Mishra 2021) with position h and velocity c.

    c' = c + step (tanh(V x + W c + U h + b) - stiffness h - damping c) and h' = h + step c'. Default: their values for
    sequential MNIST; they tune them for each task.
    """
    return Cell(
        {
            "drive": _of("linear", "x", "c", "h"),
            "force": _act("tanh", "drive"),
            "spring": _of("elem_mul", stiffness, "h"),
            "friction": _of("elem_mul", damping, "c"),
            "pull": _of("sub", "force", "spring"),
            "total": _of("sub", "pull", "friction"),
            "kick": _of("elem_mul", step, "total"),
            "velocity": _of("add", "c", "kick"),
            "move": _of("elem_mul", step, "velocity"),
            "position": _of("add", "h", "move"),
            "h_next": Block(("position",)),
            "c_next": Block(("velocity",)),
        }
    )


SEEDS = {"rnn": basic, "gru": gru, "lstm": lstm}
"""The seed cells of MOE/RNAS by the name of the layer of PyTorch that computes the same."""
KNOWN = {"RNN": basic, "GRU": gru, "LSTM": lstm, "coRNN": cornn}
"""Known cells by their usual names."""
