// Package measure is what everything shares that measures between processes: a page that they all map, pinned threads, one clock, and the floor, which is
// the time that one cache line takes there and back between two cores.
package measure
