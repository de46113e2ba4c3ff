import type { A } from './types';
import fs = require("fs");
export interface Shape<T = {}> {
  area(): number;
  cb: (x: number) => void;
}
export type Fn = (a: string) => { ok: boolean };
type Mapped = {
  [K in keyof T]: () => void;
}
declare function ambient(x: number): void;
declare module "m" { export function inside(): void }
export enum Color { Red = 1, Green = (() => 2)() }
const enum Tiny { A }
export namespace Space.Deep {
  export function spaced() {}
  export const value = 1;
}
export function over(a: string): string;
export function over(a: number): number;
export function over(a: any): any {
  return a as string satisfies unknown;
}
export abstract class Base<T extends { x: () => void }> extends Other<T> implements I, J<string> {
  private readonly map: Map<string, (a: number) => void> = new Map();
  declare name: string;
  optional?: () => void;
  sure!: string;
  constructor(private a: string, @Inject() public b?: number) { super() }
  abstract nothing(): void;
  protected abstract get also(): string;
  @Decorator({ a: () => 1 })
  @Second
  public async decorated<K extends keyof T>(
    key: K,
  ): Promise<{ a: string } | undefined> {
    return undefined;
  }
  handler = (e: Event): void => {
    if (e) { }
  };
  static make = <T,>(x: T): x is T => x !== null
  private hidden(this: Base<T>): asserts this is Base<T> {}
  overloaded(a: string): void
  overloaded(a: any) {}
  get [key](): string { return '' }
}
export const generic = async <T extends object = {}>(a: T, b?: (x: T) => T): Promise<T[]> => {
  const local = a!.x! / 2 / 3;
  return [a] as T[];
};
export const typed: (a: number) => string = (a) => `${a}`;
const assertion = <string>(a);
const list = a < b ? f<string>(x) : c;
export default function (): { a: 1 } {
  return { a: 1 };
}
function isString(x: unknown): x is string { return typeof x === 'string' }
let fnType: new () => void;
export const after = (): number => 1;
