//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// commands by name. A command that finds a.err set must do nothing.
var commands map[string]func(p *program, a *args) ([]string, error)

func init() {
	commands = map[string]func(p *program, a *args) ([]string, error){
		"hello":        func(*program, *args) ([]string, error) { return []string{"go"}, nil },
		"timeout":      (*program).setTimeout,
		"create":       (*program).create,
		"openorcreate": (*program).openOrCreate,
		"open":         func(p *program, a *args) ([]string, error) { return p.open(a) },
		"observe":      func(p *program, a *args) ([]string, error) { return p.open(a, ring.ReadOnly()) },
		"remove":       (*program).remove,
		"producer":     (*program).newProducer,
		"consumer":     (*program).newConsumer,
		"send":         (*program).send, "trysend": (*program).trySend, "sendbatch": (*program).sendBatch, "trysendbatch": (*program).trySendBatch,
		"reserve": (*program).reserve, "tryreserve": (*program).tryReserve, "commit": (*program).commit, "discard": (*program).discard,
		"receive": (*program).receive, "tryreceive": (*program).tryReceive, "last": (*program).last, "drain": (*program).drain,
		"next": (*program).next, "trynext": (*program).tryNext, "nextbatch": (*program).nextBatch, "trynextbatch": (*program).tryNextBatch,
		"release": (*program).release, "return": (*program).giveBack,
		"pour": (*program).pour, "swallow": (*program).swallow,
		"hold":    func(p *program, a *args) ([]string, error) { a.then = func() { select {} }; return nil, nil },
		"fork":    func(*program, *args) ([]string, error) { return nil, ring.ErrUnsupported },
		"recover": (*program).recoverDead, "info": (*program).info, "stats": (*program).stats, "who": (*program).who, "close": (*program).closeOne,
	}
}

func (p *program) setTimeout(a *args) ([]string, error) {
	if ms := a.number(); a.err == nil {
		p.timeout = time.Duration(ms) * time.Millisecond
	}
	return nil, nil
}

var kinds = map[string]ring.Kind{"spsc": ring.SPSC, "mpmc": ring.MPMC}
var policies = map[string]ring.DeathPolicy{"redeliver": ring.Redeliver, "drop": ring.Drop}
var backings = map[string]seg.Backing{"posix": seg.POSIX, "sysv": seg.SysV}

// options reads NAME KIND SLOTS SLOTSIZE POLICY [KEY=VALUE]...
func (p *program) options(a *args) (string, ring.Options, error) {
	name := a.word()
	kind, ok := kinds[a.word()]
	o := ring.Options{Kind: kind, Slots: int(a.number()), SlotSize: int(a.number())}
	policy, ok2 := policies[a.word()]
	o.OnConsumerDeath = policy
	o.MaxDeliveries, o.Participants = int(a.numberOf("maxdeliveries", 10)), int(a.numberOf("participants", 10))
	o.Perm = fs.FileMode(a.numberOf("perm", 8))
	ok3 := true
	if v, given := a.key("backing"); given {
		o.Backing, ok3 = backings[v]
	}
	if a.err == nil && !(ok && ok2 && ok3) {
		a.err = fmt.Errorf("%w: kind, policy or backing", errProtocol)
	}
	return name, o, a.err
}

// use makes r the peer's ring.
func (p *program) use(r *ring.Ring) error {
	var err error
	if p.ring != nil {
		err = p.ring.Close()
	}
	p.ring, p.producer, p.consumer, p.lease = r, nil, nil, nil
	return err
}

func (p *program) create(a *args) ([]string, error) {
	name, o, err := p.options(a)
	if err != nil {
		return nil, err
	}
	r, err := ring.Create(name, o)
	if err != nil {
		return nil, err
	}
	return nil, p.use(r)
}

func (p *program) openOrCreate(a *args) ([]string, error) {
	name, o, err := p.options(a)
	if err != nil {
		return nil, err
	}
	r, created, err := ring.OpenOrCreate(name, o)
	if err != nil {
		return nil, err
	}
	if created {
		return []string{"created"}, p.use(r)
	}
	return []string{"opened"}, p.use(r)
}

func (p *program) open(a *args, o ...ring.OpenOption) ([]string, error) {
	name := a.word()
	if a.err != nil {
		return nil, a.err
	}
	r, err := ring.Open(name, o...)
	if err != nil {
		return nil, err
	}
	return nil, p.use(r)
}

func (p *program) remove(a *args) ([]string, error) {
	name := a.word()
	if a.err != nil {
		return nil, a.err
	}
	var o []ring.OpenOption
	if a.flag("drained") {
		o = append(o, ring.IfDrained())
	}
	if a.flag("force") {
		o = append(o, ring.WithForce())
	}
	return nil, ring.Remove(name, o...)
}

// opened says whether there is a ring.
func (p *program) opened() error {
	if p.ring == nil {
		return fmt.Errorf("%w: no ring", errProtocol)
	}
	return nil
}

func (p *program) newProducer(a *args) (_ []string, err error) {
	if err = p.opened(); err != nil {
		return nil, err
	}
	var o []ring.ProducerOption
	if a.flag("wait") {
		o = append(o, ring.WaitForConsumers())
	}
	made, err := p.ring.NewProducer(o...)
	if err == nil {
		p.producer = made
	}
	return nil, err
}

func (p *program) newConsumer(a *args) (_ []string, err error) {
	if err = p.opened(); err != nil {
		return nil, err
	}
	o := []ring.ConsumerOption{ring.Grace(time.Duration(a.numberOf("grace", 10)) * time.Millisecond)}
	if a.flag("follow") {
		o = append(o, ring.Follow())
	}
	if a.err != nil {
		return nil, a.err
	}
	made, err := p.ring.NewConsumer(o...)
	if err == nil {
		p.consumer, p.lease = made, nil
	}
	return nil, err
}

func (p *program) recoverDead(*args) ([]string, error) {
	if err := p.opened(); err != nil {
		return nil, err
	}
	list, err := p.ring.Recover(false)
	return []string{fmt.Sprint(len(list))}, err
}

func (p *program) info(*args) ([]string, error) {
	if err := p.opened(); err != nil {
		return nil, err
	}
	o := p.ring.Options()
	return []string{fmt.Sprintf("kind=%v slots=%d slotsize=%d policy=%v maxdeliveries=%d participants=%d backing=%v maxmessage=%d",
		o.Kind, o.Slots, o.SlotSize, o.OnConsumerDeath, o.MaxDeliveries, o.Participants, o.Backing, p.ring.MaxMessage())}, nil
}

func (p *program) stats(*args) ([]string, error) {
	if err := p.opened(); err != nil {
		return nil, err
	}
	s := p.ring.Stats()
	return []string{fmt.Sprintf("used=%d producer_position=%d consumer_position=%d sent=%d received=%d redelivered=%d lost=%d skipped=%d padding=%d discarded=%d recoveries=%d "+
		"producers_ever=%d producers_live=%d producers_died=%d consumers_ever=%d consumers_live=%d consumers_died=%d",
		s.Used, s.ProducerPosition, s.ConsumerPosition, s.Sent, s.Received, s.Redelivered, s.Lost, s.Skipped, s.Padding, s.Discarded, s.Recoveries,
		s.ProducersEver, s.ProducersLive, s.ProducersDied, s.ConsumersEver, s.ConsumersLive, s.ConsumersDied)}, nil
}

func (p *program) who(*args) (words []string, err error) {
	if err := p.opened(); err != nil {
		return nil, err
	}
	for _, x := range p.ring.Participants() {
		words = append(words, fmt.Sprintf("%d:%v:%v", x.ID, x.Role, x.State))
	}
	return words, nil
}

func (p *program) closeOne(a *args) ([]string, error) {
	what := a.word()
	var c interface{ Close() error }
	switch {
	case what == "producer" && p.producer != nil:
		c = p.producer
	case what == "consumer" && p.consumer != nil:
		c = p.consumer
	case what == "ring" && p.ring != nil:
		c = p.ring
	default:
		return nil, errors.Join(a.err, fmt.Errorf("%w: close %s", errProtocol, what))
	}
	return nil, c.Close()
}
