#![allow(unused)]

use spark_channel::module;

struct Stock<'a>(&'a str);

#[module]
impl<'a> Stock<'a> {
    #[request]
    async fn count(&self) -> u64 {
        0
    }
}

struct Shelf<'a, T>(&'a [T]);

#[module]
impl Shelf<'_, u64> {
    #[request]
    async fn first(&self) -> Option<u64> {
        self.0.first().copied()
    }
}

struct Borrowing<T>(T);

#[module]
impl Borrowing<&str> {
    #[request]
    async fn length(&self) -> usize {
        self.0.len()
    }
}

struct Catalogue<'a>(&'a str);

#[module]
impl Catalogue<'static> {
    #[request]
    async fn text(&self) -> &'static str {
        self.0
    }
}

fn main() {}
