#![allow(dead_code)]
//! Crate docs.
use std::collections::{HashMap, HashSet};
use crate::a::b as c;
pub mod outside;

/// A struct. More.
#[derive(Debug, Clone)]
pub struct Point<'a, T: 'a, const N: usize> where T: Copy {
    x: &'a T,
    f: fn(i32) -> i32,
}
struct Unit;
struct Tuple(pub i32, char);
pub enum E { A(i32), B { x: char }, C = b'}' as isize }
/// The limit.
pub const LIMIT: usize = { 1 + 2 };
static mut COUNT: i32 = 0;
pub type Alias<T> = Result<T, Box<dyn Fn(&str) -> ()>>;

impl<'a, T: Copy, const N: usize> Point<'a, T, { N }> {
    /// Makes a point.
    #[inline]
    #[must_use = "why }"]
    pub const fn new(x: &'a T) -> Self { Self { x, f: |a| a } }
    pub(crate) async unsafe fn run<F>(&self, f: F) -> impl Fn() -> i32 + 'a
    where
        F: for<'b> Fn(&'b str) -> [u8; { N + 1 }],
    {
        'outer: loop {
            let c = '\''; let d = '}'; let e = b'{'; let r = r#"raw " } fn no() {"#;
            if let Some(x) = y && a || b { break 'outer; }
            match c { 'a' | 'b' => {} 'c' if d == '{' => 1, _ => {} }
            while x < y { let z = f()?; }
        }
        || 1
    }
}
impl<T> Trait for Vec<T> { fn required(&self) -> i32 { 1 } type Out = i32; const X: i32 = 1; }
pub trait Trait: Sized { fn required(&self) -> i32; fn provided(&self) { fn nested() {} } }
unsafe extern "C" { fn foreign(x: i32) -> i32; }
extern "C" fn exported(x: i32) -> i32 { x }
/* outer /* nested } */ fn commented() {} */
macro_rules! make { ($name:ident) => { fn $name() {} fn template() {} }; }
cfg_if! { pub fn in_macro() {} }
mod tests { use super::*; #[test] fn it_works() { assert!(matches!(x, A | B)); } }
pub fn r#fn<'a>(r#type: &'a str) -> char { 'x' }
fn last() {}
