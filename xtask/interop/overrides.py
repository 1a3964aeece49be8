#!/usr/bin/env python3
"""What hydra-core's own parser makes of overrides, as a table that the tests of codex-config compare with.

    python xtask/interop/overrides.py            writes fixtures/codex-config/overrides/hydra.json
    python xtask/interop/overrides.py --check    a JSON line; fails when the committed table is not what the installed hydra-core says

Needs hydra-core 1.3 (`pip install hydra-core==1.3.8`).
"""

import argparse
import json
import math
import sys
from pathlib import Path

try:
    import hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep, Sweep
    from hydra.errors import HydraException
except ImportError:
    why = f"no hydra-core in `{sys.executable}`: run `{sys.executable} -m pip install hydra-core==1.3.8`"
    print(json.dumps({"reader": "hydra-core", "version": None, "passed": 0, "failed": [], "absent": why}))
    sys.exit(1 if "--strict" in sys.argv else 0)

TABLE = Path(__file__).resolve().parents[2] / "fixtures" / "codex-config" / "overrides" / "hydra.json"

CASES = [
    # Signs and keys.
    "key=value", "+key=value", "++key=value", "~key", "~key=value", "+key=", "~key=", "a.b.c=1", "a.0=1", "a.0.b=1", "a-b.c_d=1",
    "$x=1", "db=mysql", "db/engine=innodb", "hydra/launcher=joblib", "db@src=mysql", "db@src.a=mysql", "+db@src=mysql", "~db@src",
    "~db/engine", "db@=mysql",
    # What is no override.
    "key", "=1", "a==1", "--x=1", "-x=1", "a=b=c", "a[0]=1", "a..b=1", ".a=1", "a.=1", "a b=1", "+++a=1", "~~a", "+~a=1", "a/=1", "1a=1",
    "01.a=1", "a/b.c=1", "", "a,b=1", "a:b=1",
    # Single values.
    "a=", "a=1", "a=-1", "a=+1", "a=1_000", "a=01", "a=1__0", "a=0x10", "a=.5", "a=1.", "a=1.5", "a=1e-3", "a=-1E+3", "a=1e3", "a=inf",
    "a=-inf", "a=NaN", "a=infinity", "a=true", "a=TRUE", "a=False", "a=tRuE", "a=null", "a=NULL", "a=None", "a=yes", "a=on", "a=~",
    "a=2024-01-01", "a=12:30", "a=1.2.3", "a=99999999999999999999", "a=word", "a=two words", "a= padded ", "a=a/b/c", "a=/abs/path.txt",
    "a=s3://b/c", "a=10 apples", "a=a-b_c.d", "a=50%", "a=*", "a=a|b", "a=a?b", "a=a@b", "a=$x", "a=\\d", "a=a\\,b", "a=a\\=b",
    "a=\\(x\\)", "a=a\\ ", "a=a\\\\", "a=\\{x\\}", "a=x:y:z", "a=http\\://x", "a=true story", "a=1 2", "a=é", "a=a#b", "a=a;b", "a=a<b",
    "a=a(b)", "a=(b)", "a=a)", "a=a]", "a=a}", "a=a[0]", "a=a{b}",
    # Quotes.
    "a='text'", 'a="text"', "a=''", 'a=""', "a='1'", "a='null'", "a='a,b=c'", "a='it\\'s'", 'a="say \\"x\\""', "a='\\d'", 'a="\\d"',
    "a='a\\\\'", "a='a\\\\b'", 'a="a\\\\b"', 'a="a\\nb"', "a='a\\nb'", 'a="\\u00e9"', "a='open", 'a="open', "a='a'b", "a='a' 'b'",
    "a=it's", "a=' padded '", "a='a' ", "a='[1,2]'", "a='${b}'", "a=\"it's\"", "a='say \"x\"'", "a='\\\\\\''",
    # Lists and tables.
    "a=[]", "a=[1,2,3]", "a=[1, 2]", "a=[ 1 ,2 ]", "a=[a,b c,'d,e']", "a=[[1],[2,[3]]]", "a=[null,true,1.5,x]", "a=[1,]", "a=[,1]", "a=[1",
    "a=1]", "a=[a b]", "a={}", "a={k:1}", "a={k: 1, l: two}", "a={k:{l:[1,{m:2}]}}", "a={a b:1}", "a={1:x}", "a={k:v,}", "a={k}", "a={k:}",
    "a={k=1}", "a={ k = 1 }", "a={'k':1}", 'a={"k": [1, null, "x"]}', "a={k:1,k:2}", "a={k:a:b}", "a={a/b:1}", "a=[{k:1},{k:2}]", "a={k:1",
    # Interpolation.
    "a=${b}", "a=${b.c}/x", "a=x${b}y${c}", "a=${env:HOME}", "a=${oc.env:HOME,/tmp}", "a=[${b},1]", "a={k:${b}}", "a=${b", "a=${}",
    "a=${a:${b}}", "a=\\${b}", "a=${b},${c}",
    # Sweeps.
    "a=1,2,3", "a=1, 2", "a=a,b c,'d,e'", "a=10,", "a=,1", "a=1,,2", "a=[1,2],[3]", "a={k:1},{k:2}", "a=null,1", "a=true,false", "+a=1,2",
    "db=mysql,postgres", "~a=1,2", "a=choice(1,2)", "a=choice(a)", "a=choice()", "a=choice([1,2],{k:v})", "a=choice( a , b )",
    "a=choice('a,b',c)", "a=choice(choice(1,2))", "a=choice(int(1.5,2))", "a=choice(1,2),3", "a=[choice(1,2)]", "a=range(3)", "a=range(1,4)",
    "a=range(1,10,3)", "a=range(5,1,-2)", "a=range(start=1,stop=3)", "a=range(1,stop=5,step=2)", "a=range(0,1,0.25)", "a=range(0.1,0.9,0.2)",
    "a=range(0,1,0.1)", "a=range(1,2,0.5)", "a=range(1.0,4)", "a=range(1,3,0)", "a=range(a,b)", "a=range()", "a=range(1,2,3,4)",
    "a=range(1,2,stop=3)", "a=range(3,1)", "a=interval(0,1)", "a=interval(1e-5,1e-1)", "a=interval(start=0,end=1)", "a=interval(1)",
    "a=glob(*)", "a=glob([a*,b*],exclude=[ab])", "a=glob(*,exclude=b*)", "a=glob(include=x)", "a=glob()", "a=glob(1)",
    # What orders, names and casts.
    "a=sort(3,1,2)", "a=sort(3,1,2,reverse=true)", "a=sort([b,a,c])", "a=sort(choice(b,a))", "a=sort(range(5,1,-1))",
    "a=sort(range(1,5),reverse=true)", "a=sort(1,a)", "a=sort(1)", "a=sort()", "a=sort('b','a')", "a=sort(['b','a'])", "a=sort(1,true,0.5)",
    "a=sort(list=[2,1])", "a=shuffle(1,2,3)", "a=shuffle(range(3))", "a=shuffle(choice(a,b))", "a=shuffle([1,2,3])", "a=tag(t,choice(1,2))",
    "a=tag(t,u,range(3))", "a=tag(interval(0,1))", "a=tag(t,1)", "a=tag(1,choice(1))", "a=tag(t,sweep=choice(1,2))", "a=int(3.7)", "a=int(-3.7)",
    "a=int('12')", "a=int('1.5')", "a=int(true)", "a=int(x)", "a=int(1.5,2.5)", "a=int([1.5,'2'])", "a=int({k:1.5})", "a=int(null)",
    "a=int(range(1.0,3.0))", "a=int(inf)", "a=int(value=1.5)", "a=float(3)", "a=float('1e-3')", "a=float(true)", "a=float(range(1,3))",
    "a=float(interval(0,1))", "a=float(x)", "a=str(1)", "a=str(1.0)", "a=str(1e-5)", "a=str(1e16)", "a=str(true)", "a=str([1,2])", "a=str(1,2)",
    "a=str(range(1,3))", "a=str(x y)", "a=bool(1)", "a=bool(0.0)", "a=bool('TRUE')", "a=bool(no)", "a=bool(true,false)", "a=bool(null)",
    "a=int(tag(t,choice(1.5)))", "a=int()", "a=json_str({k:1})", "a=extend_list(1)", "a=unknown(1)", "a=int (1.5)", "a=int(1,)", "a=int(1",
    "a=range(1,2)x", "a=x range(1,2)", "a=choice(x=1)", "a=int(value=1,2)",
]


def plain(value):
    """The value as JSON, with the kinds that JSON lacks written as text."""
    if isinstance(value, bool) or value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sweep):
        return sweep(value)
    if hasattr(value, "text"):
        return value.text
    raise TypeError(type(value))


def kind(value):
    """Tells 1 from 1.0 and from true, which JSON readers may not."""
    if isinstance(value, list):
        return [kind(item) for item in value]
    if isinstance(value, dict):
        return {str(key): kind(item) for key, item in value.items()}
    return "str" if hasattr(value, "text") else type(value).__name__


def sweep(value):
    entry = {"tags": sorted(value.tags), "shuffle": getattr(value, "shuffle", False)}
    if isinstance(value, ChoiceSweep):
        return entry | {"sweep": "choice", "items": plain(value.list), "kinds": kind(value.list)}
    if isinstance(value, RangeSweep):
        try:
            points = list(value.range())
        except (ValueError, TypeError, HydraException) as error:
            points = f"error: {type(error).__name__}"
        return entry | {"sweep": "range", "items": points, "kinds": kind(points) if isinstance(points, list) else []}
    if isinstance(value, IntervalSweep):
        return entry | {"sweep": "interval", "items": [value.start, value.end]}
    raise TypeError(type(value))


def row(parser, text):
    entry = {"override": text}
    try:
        found = parser.parse_overrides([text])[0]
    except (HydraException, AssertionError, IndexError, AttributeError) as error:
        return entry | {"error": type(error).__name__}
    entry |= {"type": found.type.name, "key": found.key_or_group, "package": found.package}
    value = found._value
    if found.value_type is None:
        return entry | {"value": None, "kind": "nothing"}
    if isinstance(value, Glob):
        return entry | {"sweep": {"sweep": "glob", "include": value.include, "exclude": value.exclude}}
    if isinstance(value, Sweep):
        return entry | {"sweep": sweep(value)}
    if "shuffle([" in text:
        return entry | {"value": "by chance", "kind": "str"}
    return entry | {"value": plain(value), "kind": kind(value)}


def table():
    parser = OverridesParser.create()
    assert len(CASES) == len(set(CASES)), "a case stands twice"
    rows = ",\n".join("    " + json.dumps(row(parser, text), ensure_ascii=False) for text in CASES)
    return f'{{\n  "hydra": "{hydra.__version__}",\n  "cases": [\n{rows}\n  ]\n}}\n'


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="compare instead of writing")
    check = arguments.parse_args().check
    found = table()
    if not check:
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_text(found, encoding="utf-8")
        print(f"{TABLE}: {len(CASES)} cases of hydra-core {hydra.__version__}")
        return 0
    there = TABLE.read_text(encoding="utf-8")
    failed = [f"{before} is {after}" for before, after in zip(there.splitlines(), found.splitlines()) if before != after]
    if there != found and not failed:
        failed = [f"{TABLE} has another number of cases"]
    passed = len(CASES) - len(failed)
    print(json.dumps({"reader": "hydra-core", "version": hydra.__version__, "passed": passed, "failed": failed, "absent": None}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
