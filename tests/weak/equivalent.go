package weak

const (
	byLock = "whoever reads it holds a lock that the writer held: the kernel orders it"
	byLook = "the word is the one that the load before has acquired"
	alone  = "no other memory hangs on the word"
)

// Equivalent says for each mutant that no program notices why nobody could.
var Equivalent = map[string]string{
	"R5 rel as rlx":    "R4, before it, is a full fence",
	"X6 rel as rlx":    "N2, which follows it and wakes whoever must see it, is a release",
	"X6 acq as rlx":    alone,
	"P5 rel as rlx":    "whoever comes to an interior slot has acquired the head, which P6 or C5 stores later, as a release",
	"C3 acq as rlx":    "while the word of the lease stands its length stands, and everything after is decided by CAS; the same as NoLengthRecheck of tests/model",
	"C4 acqrel as rel": byLook,
	"L2 acqrel as rel": byLook,
	"L2 acq as rlx":    byLock,
	"D2 rel as rlx":    "D4, which brings the position into the run, is a release",
	"D2 acq as rlx":    byLock,
	"J1 acq as rlx":    byLock,
	"V2 acq as rlx":    "what the dead one did is known by its lock (V1); what other recoverers did makes the CAS fail",
	"V3 acqrel as rel": byLook,
	"V3 acq as rlx":    "as C3 acq",
	"V6 acq as rlx":    byLock,
	"V6 acqrel as rel": byLook,
	"V8 acqrel as rel": byLook,
	"V9 acq as rlx":    "V8 or V3, which follows it, is a release, and the look comes before a release",
	"W2 acq as rlx":    "X5, before it, has acquired the session that wrote the word",
	"W5 acq as rlx":    "the kernel compares the epoch once more, under its lock",
	"N2 acqrel as rel": "nothing is read because of it",
	"N3 acqrel as acq": "it goes on with the release sequence of N2",
	"N3 acqrel as rel": "nothing is read because of it",
	"N4 acq as rlx":    "N2, a CAS, decides",
	"Y1 acqrel as acq": alone,
	"Y1 acqrel as rel": alone,
	"Y1 acq as rlx":    alone,

	"12.3 left out": "12.4 looks at the same word; the attempt only saves a round",
}

// Unmodelled says for each row of docs/ORDERING.md on shared memory that no program uses why none does.
var Unmodelled = map[string]string{
	"X2 rlx": "a time; lowest order",
	"V6 rlx": "a time and counters; lowest order",
	"E2 rlx": "a time; lowest order",
	"E3 rlx": "for people; lowest order",
	"P0 rlx": "widens a sequence; lowest order",
	"D3 rlx": "stores what is there; lowest order",
	"D4 rlx": "a hint; lowest order",
	"P6 rlx": "own word; lowest order",
	"K1 rlx": "own counters; lowest order",
	"K2 rlx": "observers' sums; lowest order",
	"W4 sc":  "saves a system call: the kernel compares again, which Sleep has; TestWaitReturnsWhenValueDiffers",
}
