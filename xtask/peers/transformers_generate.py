#!/usr/bin/env python3
"""Greedy generation by transformers on the CPU, f32, with its KV cache: the peer of `cargo xtask bench generate`.

Needs `pip install torch transformers` in any virtual environment, and no network: the model is made from a configuration of the given shape with
random weights. One generation is not timed, then one is. Prints one JSON line.
"""
import argparse, json, os, time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch, transformers

p = argparse.ArgumentParser()
p.add_argument("--arch", choices=["gpt2", "llama"], default="gpt2")
p.add_argument("--vocab", type=int, default=4096); p.add_argument("--d-model", type=int, default=384)
p.add_argument("--n-layers", type=int, default=6); p.add_argument("--n-heads", type=int, default=6)
p.add_argument("--d-feed-forward", type=int, required=True)
p.add_argument("--context", type=int, default=256); p.add_argument("--batch", type=int, default=1, help="not used: one stream")
p.add_argument("--tied", action="store_true"); p.add_argument("--tokens", type=int, default=100)
p.add_argument("--prompt-tokens", type=int, default=2); p.add_argument("--threads", type=int, default=0)
a = p.parse_args()
if a.threads:
    torch.set_num_threads(a.threads)
torch.manual_seed(0)
# No end-of-text id: generation goes on to the last token.
shared = dict(vocab_size=a.vocab, tie_word_embeddings=a.tied, bos_token_id=None, eos_token_id=None, pad_token_id=None)
if a.arch == "gpt2":
    config = transformers.GPT2Config(n_positions=a.context, n_embd=a.d_model, n_layer=a.n_layers, n_head=a.n_heads, n_inner=a.d_feed_forward,
                                     activation_function="gelu_new", **shared)
    model = transformers.GPT2LMHeadModel(config)
else:
    config = transformers.LlamaConfig(max_position_embeddings=a.context, hidden_size=a.d_model, num_hidden_layers=a.n_layers,
                                      num_attention_heads=a.n_heads, num_key_value_heads=a.n_heads, intermediate_size=a.d_feed_forward, **shared)
    model = transformers.LlamaForCausalLM(config)
model = model.float().eval()
prompt = torch.randint(0, a.vocab, (1, a.prompt_tokens))


def generate():
    t0 = time.perf_counter()
    with torch.no_grad():
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=a.tokens, min_new_tokens=a.tokens, do_sample=False,
                             use_cache=True)
    return out.shape[1] - a.prompt_tokens, time.perf_counter() - t0


generate()
n, seconds = generate()
print(json.dumps({
    "peer": f"transformers {transformers.__version__}, torch {torch.__version__}", "arch": a.arch,
    "parameters": sum(q.numel() for q in model.parameters()), "tokens": n, "tokens_per_s_median": round(n / seconds, 2), "seconds": round(seconds, 4),
    "threads": torch.get_num_threads()}))
