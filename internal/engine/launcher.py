"""llama-server's command line over the pip package xllamacpp.

The package runs llama.cpp's own HTTP server inside a Python process but brings
no program. This one takes llama-server's flags, so that the Monitor starts every
engine in the same way. It knows the flags that the Monitor uses and some
that people set by hand; any other is an error that names it (exit status 2),
since a flag that is silently ignored is worse than one that is refused.

Started as: python -I -S -B launcher.py FLAGS. The package lies beside this file
and nowhere else: -I and -S keep the user's own packages, .pth files and PYTHON
variables out.
"""

import os
import sys

VERSION = "@VERSION@"


def fail(words):
    sys.stderr.write("error: " + words + "\n")
    sys.stderr.flush()
    os._exit(2)


def number(flag, value):
    try:
        return int(value)
    except ValueError:
        fail("error while handling argument \"%s\": %r is not a whole number" % (flag, value))


def on_off(flag, value):
    if value in ("on", "1", "true", "enabled"):
        return True
    if value in ("off", "0", "false", "disabled"):
        return False
    fail("error while handling argument \"%s\": %r is neither on nor off" % (flag, value))


def layers(flag, value):
    # llama.cpp: -1 is auto, any lower number is all.
    return {"auto": -1, "all": -2}.get(value) or number(flag, value)


def assign(*path):
    """A setter for params.a.b.c."""
    def put(params, value):
        for name in path[:-1]:
            params = getattr(params, name)
        setattr(params, path[-1], value)
    return put


def put_hosts(params, value):
    params.hostnames = value.split(",")


def put_key_file(params, value):
    with open(value, encoding="utf-8") as lines:
        keys = [line.strip() for line in lines]
    params.api_keys = list(params.api_keys) + [k for k in keys if k and not k.startswith("#")]


def put_cache_type(name):
    def put(params, value):
        import xllamacpp
        kind = getattr(xllamacpp.ggml_type, "GGML_TYPE_" + value.upper(), None)
        if kind is None:
            fail("error while handling argument \"--cache-type\": unknown type %r" % value)
        setattr(params, name, kind)
    return put


def put_flash(params, value):
    import xllamacpp
    kinds = xllamacpp.llama_flash_attn_type
    kind = {"auto": kinds.LLAMA_FLASH_ATTN_TYPE_AUTO,
            "on": kinds.LLAMA_FLASH_ATTN_TYPE_ENABLED,
            "off": kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED}.get(value)
    if kind is None:
        fail("error while handling argument \"--flash-attn\": %r is none of on, off, auto" % value)
    params.flash_attn_type = kind


def put_device(params, value):
    """The wheel has no list of devices: one is the main GPU without a split; several
    are the first ones, whose shares --tensor-split gives."""
    import xllamacpp
    numbers = [v.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") for v in value.split(",")]
    if not all(n.isdigit() for n in numbers):
        fail("error while handling argument \"--device\": %r is no list of devices with numbers" % value)
    if len(numbers) == 1:
        params.main_gpu = int(numbers[0])
        params.split_mode = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_NONE
    elif [int(n) for n in numbers] != list(range(len(numbers))):
        fail("error while handling argument \"--device\": this engine can be told one device, or the first ones in order, not %r" % value)


def put_split_mode(params, value):
    import xllamacpp
    kinds = xllamacpp.llama_split_mode
    kind = {"none": kinds.LLAMA_SPLIT_MODE_NONE, "layer": kinds.LLAMA_SPLIT_MODE_LAYER,
            "row": kinds.LLAMA_SPLIT_MODE_ROW}.get(value)
    if kind is None:
        fail("error while handling argument \"--split-mode\": %r is none of none, layer, row" % value)
    params.split_mode = kind


def put_tensor_split(params, value):
    try:
        shares = [float(v) for v in value.replace("/", ",").split(",")]
    except ValueError:
        fail("error while handling argument \"--tensor-split\": %r is no list of numbers" % value)
    all_shares = list(params.tensor_split)
    if len(shares) > len(all_shares):
        fail("error while handling argument \"--tensor-split\": more than %d shares" % len(all_shares))
    params.tensor_split = shares + [0.0] * (len(all_shares) - len(shares))


# Each row: the spellings, what the value is called (None for a switch), how it is
# read (or the switch's value), where it goes, and the text for --help.
ROWS = [
    (["-m", "--model"], "FNAME", None, assign("model", "path"), "model path to load"),
    (["-a", "--alias"], "STRING", lambda f, v: set(v.split(",")), assign("model_alias"), "set model name aliases, comma-separated"),
    (["--host"], "HOST", None, put_hosts, "IP addresses to listen on, comma-separated"),
    (["--port"], "PORT", number, assign("port"), "port to listen, 0 = any free one"),
    (["--api-key-file"], "FNAME", None, put_key_file, "path to file containing API keys, one per line"),
    (["--cors-origins"], "ORIGINS", None, assign("cors_origins"), "comma-separated list of allowed origins for CORS"),
    (["-c", "--ctx-size"], "N", number, assign("n_ctx"), "size of the prompt context, all slots together"),
    (["-np", "--parallel"], "N", number, assign("n_parallel"), "number of server slots"),
    (["-t", "--threads"], "N", number, assign("cpuparams", "n_threads"), "number of CPU threads to use during generation"),
    (["-tb", "--threads-batch"], "N", number, assign("cpuparams_batch", "n_threads"), "number of threads to use during prompt processing"),
    (["--threads-http"], "N", number, assign("n_threads_http"), "number of threads used to process HTTP requests"),
    (["-b", "--batch-size"], "N", number, assign("n_batch"), "logical maximum batch size"),
    (["-ub", "--ubatch-size"], "N", number, assign("n_ubatch"), "physical maximum batch size"),
    (["-ngl", "--gpu-layers", "--n-gpu-layers"], "N", layers, assign("n_gpu_layers"), "number of layers to store in VRAM, or auto, or all"),
    (["-mg", "--main-gpu"], "INDEX", number, assign("main_gpu"), "the GPU to use for the model"),
    (["-dev", "--device"], "<dev1,dev2,..>", None, put_device, "comma-separated list of devices to use"),
    (["-sm", "--split-mode"], "{none,layer,row}", None, put_split_mode, "how to split the model across several GPUs"),
    (["-ts", "--tensor-split"], "N0,N1,N2,...", None, put_tensor_split, "share of the model for each GPU, comma-separated"),
    (["-fa", "--flash-attn"], "[on|off|auto]", None, put_flash, "set Flash Attention use"),
    (["-ctk", "--cache-type-k"], "TYPE", None, put_cache_type("cache_type_k"), "KV cache data type for K"),
    (["-ctv", "--cache-type-v"], "TYPE", None, put_cache_type("cache_type_v"), "KV cache data type for V"),
    (["--swa-full"], None, True, assign("swa_full"), "use full-size SWA cache"),
    (["-kvu", "--kv-unified"], None, True, assign("kv_unified"), "one KV buffer shared by all slots"),
    (["-no-kvu", "--no-kv-unified"], None, False, assign("kv_unified"), "each slot has its own share of the KV buffer"),
    (["-fit", "--fit"], "[on|off]", on_off, assign("fit_params"), "whether to adjust unset arguments to fit in device memory"),
    (["-cram", "--cache-ram"], "N", number, assign("cache_ram_mib"), "maximum size of the prompt cache in the host's memory, in MiB"),
    (["--slot-save-path"], "PATH", None, assign("slot_save_path"), "path to save slot kv cache"),
    (["--offline"], None, True, assign("offline"), "prevents network access"),
    (["--ui", "--webui"], None, True, assign("ui"), "enable the Web UI"),
    (["--no-ui", "--no-webui"], None, False, assign("ui"), "disable the Web UI"),
    (["--metrics"], None, True, assign("endpoint_metrics"), "enable prometheus compatible metrics endpoint"),
    (["--slots"], None, True, assign("endpoint_slots"), "expose slots monitoring endpoint"),
    (["--no-slots"], None, False, assign("endpoint_slots"), "do not expose slots monitoring endpoint"),
    (["--jinja"], None, True, assign("use_jinja"), "use jinja template engine for chat"),
    (["--no-jinja"], None, False, assign("use_jinja"), "do not use jinja template engine for chat"),
    (["--context-shift"], None, True, assign("ctx_shift"), "use context shift on infinite text generation"),
    (["--no-context-shift"], None, False, assign("ctx_shift"), "do not use context shift"),
    (["--warmup"], None, True, assign("warmup"), "perform warmup with an empty run"),
    (["--no-warmup"], None, False, assign("warmup"), "skip warming up the model with an empty run"),
    (["-lv", "--verbosity"], "N", number, assign("verbosity"), "verbosity threshold of the log: 3 is information (4: trace), 5 is debugging"),
]


def load():
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import xllamacpp
    return xllamacpp


def show_help():
    print("----- common params -----\n")
    rows = [(["-h", "--help"], None, None, None, "print usage and exit"),
            (["--version"], None, None, None, "show version and build info"),
            (["--list-devices"], None, None, None, "print list of available devices and exit")] + ROWS
    for names, hint, _, _, text in rows:
        head = names[0]
        if len(names) > 1:
            head = (names[0] + ", ").ljust(7) + ", ".join(names[1:])
        if hint:
            head += " " + hint
        print(head.ljust(39) + " " + text if len(head) < 38 else head + "\n" + " " * 40 + text)
    print(" " * 40 + "(env: LLAMA_API_KEY)")


def show_version():
    info = load().BUILD_INFO
    print("version: xllamacpp %s (build %s, commit %s)" % (VERSION, info.get("build_number"), info.get("commit")))
    print("built with %s for %s" % (info.get("compiler"), info.get("build_target")))


def show_devices():
    print("Available devices:")
    cards = [d for d in load().get_device_info() if d["type"].name != "GGML_BACKEND_DEVICE_TYPE_CPU"]
    if not cards:
        print("  (none)")
    for d in cards:
        print("  %s: %s (%d MiB, %d MiB free)" % (d["name"], d["description"], d["memory_total"] >> 20, d["memory_free"] >> 20))


def parse(argv):
    """The setters to call, in the order of the flags."""
    table = {name: row for row in ROWS for name in row[0]}
    todo, words = [], iter(argv)
    for word in words:
        row = table.get(word)
        if row is None:
            fail("invalid argument: " + word)
        _, hint, read, put, _ = row
        if hint is None:
            todo.append((put, read))
            continue
        value = next(words, None)
        if value is None:
            fail("error while handling argument \"%s\": expected value for argument" % word)
        todo.append((put, read(word, value) if read else value))
    return todo


def follow_parent():
    """On Linux the kernel ends this process with its parent; asked for here
    too, in case the one who started us could not."""
    parent = os.getppid()
    if sys.platform == "linux":
        import ctypes
        PR_SET_PDEATHSIG, SIGKILL = 1, 9
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
    return parent


def main(argv):
    if "-h" in argv or "--help" in argv:
        return show_help()
    if "--version" in argv:
        return show_version()
    if "--list-devices" in argv:
        return show_devices()
    todo = parse(argv)
    parent = follow_parent()

    import signal  # at once, also in the middle of loading, where Python handles none
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    xllamacpp = load()
    params = xllamacpp.CommonParams()
    key = os.environ.pop("LLAMA_API_KEY", "")
    if key:
        params.api_keys = key.split(",")
    for put, value in todo:
        put(params, value)
    if not params.model.path:
        fail("no model: --model FNAME is needed")
    try:
        server = xllamacpp.Server(params)
    except Exception as problem:  # the server's log, above this line, tells the cause
        sys.stderr.write("error: the server did not start: %s\n" % problem)
        sys.stderr.flush()
        os._exit(1)
    sys.stderr.write("listening on %s\n" % server.listening_address)
    sys.stderr.flush()

    import time
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
