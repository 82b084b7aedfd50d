//! Scratch.
use httt_sim::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let from: u64 = args[1].parse().unwrap();
    let count: u64 = args[2].parse().unwrap();
    let mutation = args.get(3).filter(|a| *a != "-").map(|m| m.parse::<Mutation>().unwrap());
    let trace = args.get(4).is_some();
    let mut tally = Tally::default();
    let mut failed = 0;
    let t = std::time::Instant::now();
    for seed in from..from + count {
        let tr: Option<Trace> = trace.then(|| Box::new(|l: &str| println!("{l}")) as Trace);
        let t1 = std::time::Instant::now();
        match simulate(seed, mutation, tr) {
            Ok(one) => tally.add(&one),
            Err(e) => {
                failed += 1;
                if failed <= 12 {
                    println!("{} {}", e.seed, e.what)
                }
            }
        }
        if t1.elapsed().as_millis() > 3000 {
            println!("slow {seed} {:?}", t1.elapsed());
        }
    }
    println!("failed {failed} of {count} in {:?}\n{tally:?}", t.elapsed());
}
