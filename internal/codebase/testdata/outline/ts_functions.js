// Prints the named functions with bodies of each file named on standard input,
// as the TypeScript compiler parses them: "path<TAB>name<TAB>first<TAB>last".
// A file with syntax errors gives "path<TAB>!".
// Usage: node ts_functions.js <folder of the typescript package>
"use strict";
const fs = require("fs");
const ts = require(process.argv[2]);

const out = [];
for (const path of fs.readFileSync(0, "utf8").split("\n")) {
  if (!path) continue;
  const text = fs.readFileSync(path, "utf8");
  const kind = /\.tsx$/.test(path) ? ts.ScriptKind.TSX : /\.[mc]?ts$/.test(path) ? ts.ScriptKind.TS : ts.ScriptKind.JSX;
  let file;
  try {
    file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true, kind);
  } catch (e) {
    out.push(path + "\t!");
    continue;
  }
  // Types in .js files (Flow) and broken fixtures are not code of the language.
  if (file.parseDiagnostics.some((d) => d.code < 8000 || d.code > 8999)) {
    out.push(path + "\t!");
    continue;
  }
  const line = (pos) => file.getLineAndCharacterOfPosition(pos).line + 1;
  const report = (name, from, node) => out.push([path, name.replace(/\s+/g, " "), line(from), line(node.end)].join("\t"));
  const start = (node) => {
    // Decorators are no part of the declaration itself.
    const mods = node.modifiers;
    if (mods && mods.length) {
      const first = mods.find((m) => m.kind !== ts.SyntaxKind.Decorator);
      if (first && first.pos >= mods[0].pos) {
        const last = mods.filter((m) => m.kind === ts.SyntaxKind.Decorator).pop();
        return last && last.pos > first.pos ? ts.skipTrivia(text, last.end) : first.getStart(file);
      }
      return ts.skipTrivia(text, mods[mods.length - 1].end);
    }
    return node.getStart(file);
  };
  const visit = (node) => {
    const fn = (e) => e && (ts.isArrowFunction(e) || ts.isFunctionExpression(e));
    if (ts.isFunctionDeclaration(node) && node.body) {
      report(node.name ? node.name.text : "default", start(node), node);
    } else if ((ts.isMethodDeclaration(node) || ts.isAccessor(node)) && node.body) {
      report(node.name.getText(file), start(node), node);
    } else if (ts.isConstructorDeclaration(node) && node.body) {
      report("constructor", start(node), node);
    } else if (ts.isVariableDeclaration(node) && ts.isIdentifier(node.name) && fn(node.initializer)) {
      report(node.name.text, node.name.getStart(file), node.initializer);
    } else if (ts.isPropertyDeclaration(node) && fn(node.initializer)) {
      report(node.name.getText(file), start(node), node.initializer);
    } else if (ts.isPropertyAssignment(node) && fn(node.initializer)) {
      report(node.name.getText(file), node.name.getStart(file), node.initializer);
    } else if (ts.isExportAssignment(node) && fn(node.expression)) {
      report("default", start(node), node.expression);
    } else if (
      ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.EqualsToken && fn(node.right) &&
      (ts.isIdentifier(node.left) || ts.isPropertyAccessExpression(node.left))
    ) {
      const name = ts.isIdentifier(node.left) ? node.left : node.left.name;
      report(name.text, name.getStart(file), node.right);
    } else if (ts.isFunctionExpression(node) && node.name) {
      const p = node.parent;
      const named =
        (ts.isVariableDeclaration(p) && ts.isIdentifier(p.name)) || ts.isPropertyDeclaration(p) || ts.isPropertyAssignment(p) ||
        ts.isExportAssignment(p) ||
        (ts.isBinaryExpression(p) && p.operatorToken.kind === ts.SyntaxKind.EqualsToken && p.right === node &&
          (ts.isIdentifier(p.left) || ts.isPropertyAccessExpression(p.left)));
      if (!named) report(node.name.text, node.getStart(file), node);
    }
    ts.forEachChild(node, visit);
  };
  try {
    visit(file);
  } catch (e) {
    if (!(e instanceof RangeError)) throw e;
    out.push(path + "\t!");
  }
}
fs.writeFileSync(1, out.join("\n") + "\n");
