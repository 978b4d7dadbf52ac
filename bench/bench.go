// Package bench has the rows of the plan as Go benchmarks. The measurements themselves are in harness, what they measure in mech, peers and yardstick;
// the command is millbench. docs/BENCHMARKS.md explains all of it.
package bench
