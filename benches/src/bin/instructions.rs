//! Does a fixed amount of work, for callgrind to count its instructions.
//!
//! ```text
//! scripts/count-instructions
//! scripts/count-instructions 'spark*/ask1' baseline/ask1
//! ```
//!
//! What is counted, and how, is in `benches::instructions`.

use std::{env, process::ExitCode};

use benches::{
    actors::counting_allocator::CountingAllocator,
    instructions::{self, Asked, Operation},
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    let Ok(asked) = Asked::parse(env::args().skip(1)) else {
        eprint!("{}", Asked::USAGE);
        return ExitCode::FAILURE;
    };
    match asked {
        Asked::List => Operation::all().for_each(|operation| println!("{operation}")),
        Asked::Comparisons => instructions::comparisons().for_each(|comparison| {
            let (name, subject) = (comparison.name, comparison.subject);
            println!("{name} {subject} {}", comparison.reference);
        }),
        Asked::Run {
            operation,
            times,
            allocations,
        } => {
            let done = instructions::run(operation, times, allocations);
            match done.tally {
                Some(tally) => println!("{} {}", done.operations, tally.allocations),
                None => println!("{}", done.operations),
            }
        }
    }
    ExitCode::SUCCESS
}
