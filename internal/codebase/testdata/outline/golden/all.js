#!/usr/bin/env node
'use strict';
import def, { a as b } from "./module.js";
import "./side-effect.js";
export * from './again';
const fs = require('fs');

/**
 * Adds two numbers. And more.
 * @param {number} a
 */
export function add(a, b = (x) => x, { c = 1 } = {}) {
  return a / b / c; // not a regex
}
export default class extends Base {
  #secret = 1;
  static count = 0;
  static { this.count = 1; }
  field = (x) => {
    return x ? 1 : 2;
  };
  other = x => x
  constructor(a) { super(a); }
  get value() { return this.#secret; }
  set value(v) { this.#secret = v }
  static async *stream() { yield* []; }
  async get() { return 1 }
  [Symbol.iterator]() {
    return /[/}]{2}/.test("}") && `}${`nested ${"}"} {`}` || a?.b ?? 3;
  }
  'quoted name'() {}
  #hidden() {}
}
function* generator() {}
async function later() {
  for await (const x of y) if (x) break
}
var one = function () { return 1 }, two = function named() {
  return 2
}, three = 3;
const arrow = async (a, b) =>
  a +
  b;
const curried = a => b => {
  switch (a) { case 1: return /}/g; case 2: { break } default: }
};
const object = {
  method() { return 1 },
  get prop() { return { nested() {} } },
  fn: function () {},
  arrow: () => ({ deep: () => 1 }),
  async *gen() {},
  'str': () => {},
  value: a ? function () {} : () => {},
  ["computed" + 1]: 1,
};
exports.handler = async function (event) {
  if (event) { return }
  else do { event++ } while (event < 10)
}
Foo.prototype.bar = function () {}
;(function () { function inner() {} })()
const called = function () { return 1 }();
const html = <div className="a" onClick={() => { go() }} {...rest}>
  it's {list.map((x) => <li key={x}>{x} isn't</li>)} {/* } */}
  <></><Foo.Bar />
</div>;
const Component = ({ a }) => <p>text function () {'{'} </p>
label: for (;;) { break label }
let x = a
++b
const y = a < b, z = c > d
function afterShift() { return 1 << 2 }
export { arrow, html as markup }
const notExported = 1
