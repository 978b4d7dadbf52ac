package model

// Kinds of operations and of consumers.
var (
	one     = []Op{Send(1)}
	two     = []Op{Send(1), Send(1)}
	discard = Op{Slots: []uint8{1}, Discard: true}
	drop2   = Op{Slots: []uint8{2}, Discard: true}
	keep1   = Op{Slots: []uint8{2}, Keep: 1}

	copier = Consumer{}
	once   = Consumer{Quota: 1}
	lease  = Consumer{Lease: true}
	batch2 = Consumer{Lease: true, Batch: 2}
	batch3 = Consumer{Lease: true, Batch: 3}
	parts  = Consumer{Lease: true, Batch: 3, Partial: true}
	turner = Consumer{Lease: true, Batch: 2, Partial: true, Return: true}
	heir   = Consumer{New: true}
)

// mpmcConfigs are explored by every run.
var mpmcConfigs = []Config{
	// Death anywhere, ids used again, hints that lag and move back.
	{Name: "2P 1C", Slots: 2, Producers: [][]Op{two, two}, Consumers: []Consumer{copier}, Recoverers: 1, Crashes: 1, Hints: true},
	{Name: "1P 2C", Slots: 2, Producers: [][]Op{two}, Consumers: []Consumer{copier, copier}, Recoverers: 1, Crashes: 1, Hints: true},
	{Name: "lease", Slots: 2, Producers: [][]Op{two}, Consumers: []Consumer{lease, copier}, Recoverers: 1, Crashes: 2},
	{Name: "no heirs", Slots: 2, Producers: [][]Op{two}, Consumers: []Consumer{lease, lease}, Recoverers: 1, Crashes: 1, NoHeirs: true},
	{Name: "one slot", Slots: 1, Producers: [][]Op{two, two}, Consumers: []Consumer{copier}, Recoverers: 2, Crashes: 2},

	// Extents: messages of two slots, padding, batches, leases of several messages.
	{Name: "batch race", Slots: 4, Producers: [][]Op{two, {Send(2)}}, Consumers: []Consumer{batch2}},
	{Name: "batch", Slots: 4, Producers: [][]Op{{Send(1, 2), Send(2)}}, Consumers: []Consumer{parts, copier}, Recoverers: 1, Crashes: 1},
	{Name: "parts", Slots: 4, Producers: [][]Op{{Send(2, 1)}}, Consumers: []Consumer{parts}, Recoverers: 1, Crashes: 1},
	{Name: "padding", Slots: 4, First: 3, Producers: [][]Op{{Send(2)}, {Send(1), Send(2)}}, Consumers: []Consumer{batch2}, Recoverers: 1, Crashes: 1},
	{Name: "discard", Slots: 4, First: 2, Producers: [][]Op{{drop2, Send(2)}, {keep1, Send(1)}}, Consumers: []Consumer{batch2}, Recoverers: 1, Crashes: 1},
	{Name: "rescue", Slots: 4, Producers: [][]Op{{Send(1, 1, 1)}}, Consumers: []Consumer{batch3, heir}, Recoverers: 1, Crashes: 1},
	{Name: "return", Slots: 4, Producers: [][]Op{{Send(1, 2)}}, Consumers: []Consumer{turner, copier}, Recoverers: 1, Crashes: 1, Returns: 1, MaxDeliveries: 2},
	{Name: "return drop", Slots: 4, First: 3, Producers: [][]Op{{Send(1), Send(2)}}, Consumers: []Consumer{turner}, Recoverers: 1, Crashes: 2, Returns: 1, Drop: true},

	// Two recoverers at once, one of which may die.
	{Name: "redeliver", Slots: 4, Producers: [][]Op{{Send(1, 1), Send(1)}}, Consumers: []Consumer{batch2}, Recoverers: 2, Crashes: 2},
	{Name: "drop", Slots: 4, First: 3, Producers: [][]Op{{Send(2), Send(1)}}, Consumers: []Consumer{batch2}, Recoverers: 2, Crashes: 2, Drop: true},
	{Name: "limit", Slots: 4, First: 3, Producers: [][]Op{{Send(1, 2)}}, Consumers: []Consumer{batch2}, Recoverers: 2, Crashes: 2, MaxDeliveries: 2},
	{Name: "late recoverer", Slots: 4, Producers: [][]Op{{Send(1), Send(1), Send(1), Send(1), Send(2)}}, Consumers: []Consumer{lease}, Recoverers: 2, Crashes: 1, Drop: true},

	// Sleeping. Without a death there are no ticks.
	{Name: "wait 2P 1C", Slots: 2, Producers: [][]Op{two, two}, Consumers: []Consumer{copier}, Wait: true},
	{Name: "wait 1P 2C", Slots: 2, Producers: [][]Op{one}, Consumers: []Consumer{copier, copier}, Recoverers: 1, Crashes: 1, Wait: true},
	{Name: "wait 2P 1C death", Slots: 2, Producers: [][]Op{one, one}, Consumers: []Consumer{lease}, Recoverers: 1, Crashes: 1, Wait: true},
	{Name: "wait batch", Slots: 4, Producers: [][]Op{{Send(1, 1, 1)}}, Consumers: []Consumer{once, once, once}, Wait: true},
	{Name: "wait return", Slots: 2, Producers: [][]Op{two}, Consumers: []Consumer{{Lease: true, Return: true}, copier}, Returns: 1, Wait: true},
	{Name: "wait discard", Slots: 2, Producers: [][]Op{{discard}, one}, Consumers: []Consumer{copier}, Wait: true},
	{Name: "wait pad", Slots: 4, First: 3, Producers: [][]Op{{Send(2)}, one, one}, Wait: true},
	{Name: "wait leave", Slots: 2, Producers: [][]Op{one, one}, Consumers: []Consumer{copier, copier}, Wait: true, Leaves: 1},
	{Name: "baton", Slots: 2, Producers: [][]Op{one, one}, Consumers: []Consumer{once, once}, Wait: true},
	{Name: "baton lease", Slots: 2, Producers: [][]Op{one, one}, Consumers: []Consumer{{Lease: true, Quota: 1}, once}, Wait: true},
	{Name: "baton pad", Slots: 4, First: 2, Producers: [][]Op{one, {Send(2)}}, Consumers: []Consumer{once, once}, Wait: true},
}

// mpmcLong are explored with MILLRACE_MODEL=long.
var mpmcLong = []Config{
	{Name: "long 1P 2C", Slots: 2, Producers: [][]Op{two}, Consumers: []Consumer{copier, copier}, Recoverers: 1, Crashes: 1, Wait: true},
	{Name: "long baton discard", Slots: 4, Producers: [][]Op{one, {discard, Send(1)}}, Consumers: []Consumer{once, once}, Wait: true},
	{Name: "long late recoverer", Slots: 4, Producers: [][]Op{two, {Send(1), Send(2)}}, Consumers: []Consumer{lease}, Recoverers: 2, Crashes: 2, Drop: true},
	{Name: "long 2P 1C death", Slots: 2, Producers: [][]Op{two, two}, Consumers: []Consumer{copier}, Recoverers: 1, Crashes: 1, Wait: true},
	{Name: "long 2P 1C deaths", Slots: 2, Producers: [][]Op{two, two}, Consumers: []Consumer{copier}, Recoverers: 1, Crashes: 2, Hints: true},
	{Name: "long 2P 2C", Slots: 2, Producers: [][]Op{two, two}, Consumers: []Consumer{copier, copier}, Wait: true},
	{Name: "long 1P 2C lease", Slots: 2, Producers: [][]Op{two}, Consumers: []Consumer{lease, lease}, Recoverers: 1, Crashes: 1, Wait: true},
	{Name: "long batch", Slots: 4, Producers: [][]Op{{Send(1, 2)}, {Send(2)}}, Consumers: []Consumer{parts, copier}, Recoverers: 1, Crashes: 1, Hints: true},
	{Name: "long padding", Slots: 4, First: 3, Producers: [][]Op{{Send(2), Send(1)}, {Send(1, 2)}}, Consumers: []Consumer{parts}, Recoverers: 1, Crashes: 2},
	{Name: "long limit", Slots: 4, Producers: [][]Op{{Send(1, 2), Send(1, 1)}}, Consumers: []Consumer{batch3, copier}, Recoverers: 2, Crashes: 2, MaxDeliveries: 2},
	{Name: "long drop", Slots: 4, Producers: [][]Op{{Send(1, 1, 1), Send(2)}}, Consumers: []Consumer{parts, copier}, Recoverers: 2, Crashes: 2, Drop: true},
	{Name: "long return", Slots: 4, Producers: [][]Op{{Send(1, 2), Send(1)}}, Consumers: []Consumer{turner, copier}, Recoverers: 1, Crashes: 1, Returns: 1, Wait: true},
	{Name: "long baton", Slots: 4, First: 2, Producers: [][]Op{one, {Send(2)}, {discard}}, Consumers: []Consumer{once, once}, Wait: true},
}

// Kinds of SPSC operations.
var (
	single  = SPSCOp{Slots: []uint8{1}}
	mixed   = SPSCOp{Slots: []uint8{1, 2}}
	run2    = SPSCOp{Slots: []uint8{1, 1}, Run: true}
	run3    = SPSCOp{Slots: []uint8{1, 1, 1}, Run: true}
	resv1   = SPSCOp{Slots: []uint8{1}, Reserve: true}
	resv2   = SPSCOp{Slots: []uint8{2}, Reserve: true}
	resvNot = SPSCOp{Slots: []uint8{2}, Reserve: true, Discard: true}
)

var spscConfigs = []SPSCConfig{
	{Name: "copy", Slots: 2, Ops: []SPSCOp{single, single, single, single}, Crashes: 3},
	{Name: "copy batch", Slots: 4, Ops: []SPSCOp{mixed, single, mixed}, Crashes: 3},
	{Name: "copy run", Slots: 4, Ops: []SPSCOp{run3, single, run3}, Crashes: 3},
	{Name: "reserve", Slots: 4, First: 3, Ops: []SPSCOp{resv2, single, resvNot, resv2, resv1}, Crashes: 3},
	{Name: "reserve one slot", Slots: 1, Ops: []SPSCOp{resv1, resv1, single}, Crashes: 3},
	{Name: "discard padding", Slots: 4, First: 3, Ops: []SPSCOp{resvNot, {Slots: []uint8{1, 1, 2}}}},
	{Name: "lease run", Slots: 4, Ops: []SPSCOp{run3, single, run3}, Batch: 3, Partial: true, Crashes: 3},
	{Name: "lease runs", Slots: 4, Ops: []SPSCOp{run2, run2, single, run3}, Batch: 3, Partial: true, Crashes: 3},
	{Name: "lease limit", Slots: 4, Ops: []SPSCOp{mixed, single, run3}, Batch: 4, Partial: true, Crashes: 3, MaxDeliveries: 2},
	{Name: "lease limit 3", Slots: 4, Ops: []SPSCOp{single, run3}, Batch: 3, Crashes: 4, MaxDeliveries: 3},
	{Name: "lease drop", Slots: 4, Ops: []SPSCOp{mixed, single, run3}, Batch: 4, Partial: true, Crashes: 3, Drop: true},
	{Name: "return", Slots: 4, First: 1, Ops: []SPSCOp{mixed, mixed, single}, Batch: 3, Partial: true, Returns: 2, Crashes: 2},
	{Name: "return drop", Slots: 4, First: 1, Ops: []SPSCOp{mixed, mixed, single}, Batch: 3, Partial: true, Returns: 2, Crashes: 2, Drop: true},
	{Name: "return drop limit", Slots: 4, First: 1, Ops: []SPSCOp{mixed, mixed, single}, Batch: 3, Partial: true, Returns: 2, Crashes: 2, Drop: true, MaxDeliveries: 2},
	{Name: "return limit", Slots: 4, First: 1, Ops: []SPSCOp{mixed, mixed, single}, Batch: 3, Partial: true, Returns: 2, Crashes: 2, MaxDeliveries: 2},
	{Name: "eight slots", Slots: 8, First: 6, Ops: []SPSCOp{{Slots: []uint8{1, 4, 1}}, run3, resv1}, Batch: 3, Partial: true, Crashes: 2},
}

var spscLong = []SPSCConfig{
	{Name: "long runs", Slots: 8, First: 5, Ops: []SPSCOp{run3, run2, mixed, resv1}, Batch: 4, Partial: true, Crashes: 3, MaxDeliveries: 2},
	{Name: "long drop", Slots: 8, First: 5, Ops: []SPSCOp{run3, resv2, run2, single}, Batch: 4, Partial: true, Crashes: 4, Drop: true},
	{Name: "long redeliver", Slots: 4, First: 2, Ops: []SPSCOp{mixed, run3, resvNot, single}, Batch: 3, Partial: true, Crashes: 4},
}
