#!/usr/bin/env python3
"""PyTorch training step of a small GPT on the CPU: the peer that `cargo xtask bench train` is measured beside.

Needs `pip install torch numpy` in any virtual environment. Prints one JSON line: median and best tokens/s over the
counted steps, peak resident memory, loss of the first and last step, when the first step was done. Modes: eager, compile, bf16 (autocast),
bf16-compile. `--arch gpt2` is LayerNorm + learned positions + GELU(tanh) + biases; `--arch llama` is RMSNorm + rotary
+ SwiGLU without biases.
"""
import argparse, json, resource, statistics, time
import torch, torch.nn as nn, torch.nn.functional as F

p = argparse.ArgumentParser()
p.add_argument("--arch", choices=["gpt2", "llama"], default="gpt2")
p.add_argument("--mode", choices=["eager", "compile", "bf16", "bf16-compile"], default="eager")
p.add_argument("--vocab", type=int, default=4096); p.add_argument("--d-model", type=int, default=384)
p.add_argument("--n-layers", type=int, default=6); p.add_argument("--n-heads", type=int, default=6)
p.add_argument("--context", type=int, default=256); p.add_argument("--batch", type=int, default=8)
p.add_argument("--steps", type=int, default=12); p.add_argument("--warmup", type=int, default=3)
p.add_argument("--threads", type=int, default=0)
a = p.parse_args()
if a.threads:
    torch.set_num_threads(a.threads)
torch.manual_seed(0)
V, D, L, H, T, B = a.vocab, a.d_model, a.n_layers, a.n_heads, a.context, a.batch


def rotate(x, cos, sin):
    h = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., h:], x[..., :h]), -1) * sin


class Block(nn.Module):
    def __init__(s):
        super().__init__()
        ll = a.arch == "llama"
        norm = (lambda: nn.RMSNorm(D)) if ll else (lambda: nn.LayerNorm(D))
        s.n1, s.n2 = norm(), norm()
        s.qkv, s.proj = nn.Linear(D, 3 * D, bias=not ll), nn.Linear(D, D, bias=not ll)
        f = int(8 * D / 3 + 63) // 64 * 64 if ll else 4 * D
        s.up, s.down = nn.Linear(D, 2 * f if ll else f, bias=not ll), nn.Linear(f, D, bias=not ll)

    def forward(s, x, cos, sin):
        b, t, d = x.shape
        q, k, v = (y.view(b, t, H, d // H).transpose(1, 2) for y in s.qkv(s.n1(x)).chunk(3, -1))
        if a.arch == "llama":
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d)
        x = x + s.proj(y)
        u = s.up(s.n2(x))
        if a.arch == "llama":
            g, u = u.chunk(2, -1)
            u = F.silu(g) * u
        else:
            u = F.gelu(u, approximate="tanh")
        return x + s.down(u)


class Gpt(nn.Module):
    def __init__(s):
        super().__init__()
        s.wte = nn.Embedding(V, D)
        s.wpe = nn.Embedding(T, D) if a.arch == "gpt2" else None
        s.blocks = nn.ModuleList(Block() for _ in range(L))
        s.nf = nn.LayerNorm(D) if a.arch == "gpt2" else nn.RMSNorm(D)
        s.head = nn.Linear(D, V, bias=False)
        ang = torch.outer(torch.arange(T).float(), 10000.0 ** (-torch.arange(0, D // H, 2).float() / (D // H)))
        ang = torch.cat((ang, ang), -1)
        s.register_buffer("cos", ang.cos()); s.register_buffer("sin", ang.sin())

    def forward(s, x, y):
        z = s.wte(x) + (s.wpe(torch.arange(T)) if s.wpe is not None else 0)
        for b in s.blocks:
            z = b(z, s.cos, s.sin)
        return F.cross_entropy(s.head(s.nf(z)).view(-1, V), y.view(-1))


m = Gpt()
opt = torch.optim.AdamW(m.parameters(), lr=1e-3, fused=True)
f = torch.compile(m) if "compile" in a.mode else m
data = torch.randint(0, V, (B, T + 1))
x, y = data[:, :-1].contiguous(), data[:, 1:].contiguous()
rates, losses = [], []
first_step = None
for i in range(a.warmup + a.steps):
    t0 = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in a.mode):
        loss = f(x, y)
    loss.backward()
    nn.utils.clip_grad_norm_(m.parameters(), 1.0)
    opt.step(); opt.zero_grad()
    losses.append(loss.item())
    first_step = first_step or time.time()
    if i >= a.warmup:
        rates.append(B * T / (time.perf_counter() - t0))
print(json.dumps({
    "peer": f"torch {torch.__version__}", "arch": a.arch, "mode": a.mode, "parameters": sum(q.numel() for q in m.parameters()),
    "tokens_per_s_median": round(statistics.median(rates), 1), "tokens_per_s_best": round(max(rates), 1),
    "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    "loss_first": losses[0], "loss_last": losses[-1],
    "first_step_unix_s": first_step, "threads": torch.get_num_threads()}))
