package model

// Mutant is a change of the protocol that some configuration must notice. "" is the protocol as it is written.
type Mutant string

// Mutants of the MPMC protocol.
const (
	FreeAscending     Mutant = "C5, V3 free from the first slot to the last"
	JumpToHead        Mutant = "P1, C2 jump to the head that was seen"
	NoLengthRecheck   Mutant = "V3 does not look at S[p] again after the length"
	NoTick            Mutant = "no ticks"
	CountLate         Mutant = "V3 frees first, counts then"
	NoBaton           Mutant = "no baton"
	BatonOneWord      Mutant = "the baton looks at one word only"
	DiscardSilent     Mutant = "Discard does not notify not_empty"
	PadSilent         Mutant = "P8 does not notify not_full of padding"
	RescueMoves       Mutant = "a rescue moves own p, give-back ascends"
	HeadFirst         Mutant = "P6 before P5"
	NoReturnsBump     Mutant = "V4 left out"
	RetireFirst       Mutant = "V6 before V2"
	NoSecondLook      Mutant = "P2 without the second look at S[t]"
	LoadBeforeProof   Mutant = "V2 before V1"
	BlindClear        Mutant = "N3 clears arrivals without CAS"
	NoEpoch           Mutant = "N2, N3 do not advance the epoch"
	NoLookBeforeSleep Mutant = "W3 left out"
	PublishFirst      Mutant = "P6 before P4"
	NoSkip            Mutant = "V3 leaves CLAIMED alone"
	EmptyAtOnce       Mutant = "EMPTY without the second load of returns"
	CopyUnproven      Mutant = "C4 changes whatever word is there"
	CountUnchecked    Mutant = "account without a look at the state word"
	CountUntagged     Mutant = "account without a tag"
)

// Mutants of the SPSC protocol.
const (
	BatchHeadLast     Mutant = "S4 publishes the first of a batch last"
	NoRunEnd          Mutant = "a successor does not know run_end"
	RunInLease        Mutant = "a batch goes on into a run"
	LengthFirst       Mutant = "J4 stores the length word of a run's head first"
	RunForward        Mutant = "J4 rewrites the first entry first"
	JournalKept       Mutant = "journal is not cleared when no lease is open"
	JournalKeptByDrop Mutant = "journal is not cleared after a drop"
	NoJournal         Mutant = "J1 left out"
	LeaseLate         Mutant = "lease_end after the views are handed out"
	ReleaseFirst      Mutant = "D4 before D3"
	PadQuiet          Mutant = "D2 steps over padding without D6"
	ReservedIgnored   Mutant = "10.3 ignores reserved_position"
	ClearEarly        Mutant = "reserved_position = 0 before S4"
)
