# Prints the functions of each file named on standard input, as Python's own
# ast sees them: "path<TAB>name<TAB>first<TAB>last". A file that this Python
# cannot parse gives "path<TAB>!".
import ast
import sys
import warnings

warnings.simplefilter("ignore")
for path in sys.stdin.read().split("\n"):
    if not path:
        continue
    try:
        with open(path, "rb") as f:
            tree = ast.parse(f.read())
    except (SyntaxError, ValueError, RecursionError, OSError):
        print(path, "!", sep="\t")
        continue
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            print(path, node.name, node.lineno, node.end_lineno, sep="\t")
