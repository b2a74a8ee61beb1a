"""Sound files, and what damages them."""

from __future__ import annotations

from hypothesis import strategies as st

NASTY = (
    *(
        "",
        "-",
        "-0.0",
        "0",
        "1e400",
        "1e-400",
        "1e99",
        "nan",
        "inf",
        "9" * 5000,
        "1_000",
        "1,5",
        "1;5",
        "²",
        "0x10",
        "1e9999999999",
    ),
    *(
        "true",
        '"',
        '""',
        "[]",
        "{}",
        "[[",
        "]",
        "=",
        "#",
        "\n",
        "\r",
        "\t",
        ",",
        ".",
        "..",
        "é",
        "\0",
        "\x1b[1m",
        "1970-01-01",
    ),
    *("null", "NaN", "{ file = 3 }", '{ file = "t.txt", time = "ms", rate = "kbps" }', '"t.csv"', '"../.."', "[1, 2]"),
)


NETWORK = (
    'kind = "network"\ndescription = "d"\nup_mbps = { value = 2.0, grade = "R", source = "s", date = "2026-11" }\n'
    'down_trace = { file = "t.txt", time = "ms", rate = "kbps", holds = "before" }\none_way_ms = 35\njitter_ms = 1.5\n'
    'loss_percent = 0.1\nduplex = "half"\ntransport = "tcp"\nrate_kind = "link"\ntrace_start_s = 3\n'
)


DEVICE = (
    'kind = "device"\ndescription = "d"\nmemory_mib = 512\nos_reserved_mib = 100\nruntime_mib = 100\n'
    "dense_gflops = 2.5\ndepthwise_gflops = 0.1\nmemory_gbps = 3\ndispatch_us = 20\nsend_queue_mib = 8\n"
)


SCENARIO = (
    'kind = "scenario"\ndescription = "d"\n[server]\ndevice = "edge-server"\nnetwork = "ethernet-1g"\nworkers = 2\n'
    '[[cells]]\nname = "mast"\nup_trace = "./t.csv"\ndown_mbps = 7\nduplex = "half"\n'
    '[[clients]]\ncount = 2\ndevice = "./d.toml"\nnetwork = "./n.toml"\ncell = "mast"\n'
    '[clients.absence]\nkind = "away"\nfile = "a.csv"\n'
    '[[clients]]\ntable = "c.csv"\nignore = ["km"]\ndevice = "pi-4b"\nnetwork = "iot-4g"\n'
    '[clients.absence]\nkind = "outage"\nmean_present_s = 60\nmean_absent_s = 2.5\n'
)


EXPERIMENT = (
    'kind = "experiment"\ndescription = "d"\nalgorithm = "fsl-sage,cse-fsl"\nrounds = 20\nclients = 3\n'
    'seed = 2\n[task]\ndataset = "digits"\nbatch = 16\n[settings]\nweight_decay = 1e-4\nbetas = [0.9, 0.99]\n'
    "deadline_s = 3.5\n[algorithms.fsl-sage]\nl = 10\nalign_lr = 1e-3\n"
)


CSV = "time_s,up_mbps,down_mbps,rtt_ms,loss\n0,1.5,2,40,0\n1,2,0,45.5,0.01\n2.5,1e-3,7,40,0\n"


PAIRS = "7.0 4600.0\n1053.0 4307.5\n4087.0 0\n4801.0 3542.0825\n"


PERIODS = (
    '[{"duration_ms": 725, "bandwidth_kbps": 36014, "latency_ms": 20},\n'
    ' {"duration_ms": 1000, "bandwidth_kbps": 0, "latency_ms": 20.5}]\n'
)


LOG = (
    "Timestamp,State,DL_kbps,UL (kbps),PING\n2024.03.01_23.59.58,D,60000,5000,-\n2024.03.02_00.00.01,D,-,7000,30\n" * 2
)


FILES = {
    "n.toml": NETWORK,
    "d.toml": DEVICE,
    "s.toml": SCENARIO,
    "e.toml": EXPERIMENT,
    "t.csv": CSV,
    "t.txt": PAIRS,
    "p.json": PERIODS,
    "m.trace": "".join(f"{t}\n" for t in range(0, 300, 7)),
    "log.csv": LOG,
    "a.csv": "from_s,to_s\n1.5,2\n\n10,12.25\n",
    "c.csv": "client,up_bps,km,gflops\n0,25948858.2,0.6,3.9\n1,64992952.1,0.2,2.25\n",
}


@st.composite
def mutated(draw: st.DrawFn, text: str) -> bytes:
    """With some words, lines or bytes exchanged, left out or there twice; perhaps in another encoding."""
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, max(len(text) - 1, 0)))
        end = min(begin + draw(st.sampled_from((0, 1, 3, 8, 40))), len(text))
        put = draw(st.sampled_from(NASTY) | st.text(max_size=4) | st.just(text[begin:end] * 2))
        text = text[:begin] + put + text[end:]
    content = text.encode(draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16"))), "replace")
    if draw(st.booleans()):
        return content
    place = draw(st.integers(0, len(content)))
    return content[:place] + draw(st.binary(max_size=3)) + content[place:]


@st.composite
def nasty_value(draw: st.DrawFn, text: str) -> bytes:
    """One whole value of a line, or a cell, is something else."""
    lines = text.split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    mark = next((mark for mark in (" = ", ",", " ") if mark in lines[at]), "")
    parts = lines[at].split(mark) if mark else [lines[at]]
    parts[draw(st.integers(0, len(parts) - 1))] = draw(st.sampled_from(NASTY))
    lines[at] = mark.join(parts)
    return "\n".join(lines).encode()
