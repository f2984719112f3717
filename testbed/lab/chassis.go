package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// offLimit is how long a power-off by a controller may take.
const offLimit = time.Minute

// bmcsMain is the process that switches the hosts' power for their management
// controllers. It lives outside the hosts, until SIGTERM or Down.
func bmcsMain(ctx context.Context, dir string) error {
	return outside(ctx, dir, func(ctx context.Context, l *Lab, h string) error {
		idle := make(chan struct{})
		close(idle)
		c := &chassis{l: l, host: h, log: slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", h), done: idle}
		return c.serve(ctx)
	})
}

// makePipes makes what the controllers' programs and bmcsMain talk through.
func (p plan) makePipes() error {
	for _, h := range p.hosts() {
		if err := os.MkdirAll(p.bmc(h), 0o700); err != nil {
			return fmt.Errorf("prepare management controllers: %w", err)
		}
		for _, name := range []string{"questions", "answers"} {
			if err := unix.Mkfifo(p.bmc(h, name), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("prepare management controllers: make pipe: %w", err)
			}
		}
	}
	return nil
}

// chassis is the power switch of one host.
type chassis struct {
	l      *Lab
	host   string
	log    *slog.Logger
	orders context.Context    // of all orders since the last power-off
	cancel context.CancelFunc // ends orders
	done   chan struct{}      // closed when the last order was carried out
}

// serve answers the controller's program until ctx ends. A question is a line
// "ID get|set PARAMETER [VALUE]...", an answer "ID EXIT [TEXT]".
func (c *chassis) serve(ctx context.Context) error {
	// Open for both directions, so that a pipe without the other end neither
	// blocks nor ends.
	questions, err := os.OpenFile(c.l.p.bmc(c.host, "questions"), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the controller's questions: %w", err)
	}
	defer questions.Close()
	answers, err := os.OpenFile(c.l.p.bmc(c.host, "answers"), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the controller's answers: %w", err)
	}
	defer answers.Close()
	stop := context.AfterFunc(ctx, func() {
		if err := questions.SetReadDeadline(time.Now()); err != nil {
			c.log.Error("end of the controller", "err", err)
		}
	})
	defer stop()
	c.orders, c.cancel = context.WithCancel(ctx)
	defer func() { c.cancel(); <-c.done }()
	for lines := bufio.NewScanner(questions); lines.Scan(); {
		id, rest, _ := strings.Cut(lines.Text(), " ")
		text, err := c.answer(ctx, strings.Fields(rest))
		code := 0
		if err != nil {
			c.log.Warn("refused", "question", rest, "err", err)
			code, text = 1, err.Error()
		}
		if _, err := fmt.Fprintf(answers, "%s %d %s\n", id, code, text); err != nil {
			return fmt.Errorf("answer the controller: %w", err)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("the controller's questions ended")
}

// answer handles one question.
func (c *chassis) answer(ctx context.Context, words []string) (string, error) {
	s, err := loadState(c.l.p.Dir)
	if err != nil {
		return "", err
	}
	switch {
	case len(words) == 2 && words[0] == "get" && words[1] == "power":
		if s.on(c.host) {
			return "power:1", nil
		}
		return "power:0", nil
	case len(words) == 3 && words[0] == "set":
		return "", c.set(ctx, s.BMCs[c.host], words[1], words[2])
	}
	return "", fmt.Errorf("question %q is not known", strings.Join(words, " "))
}

// set takes an order. As with a real controller it is accepted at once and
// carried out meanwhile.
func (c *chassis) set(ctx context.Context, b bmcState, what, value string) error {
	mode, err := c.linger(ctx, b)
	if err != nil {
		return err
	}
	if mode == BMCRefuse {
		return errors.New("told to refuse")
	}
	switch order := what + " " + value; {
	case order == "power 1":
		c.carryOut("on", c.on)
	case mode == BMCLie:
		c.log.Info("told to lie", "order", order)
	case order == "power 0":
		c.interrupt(ctx)
		c.carryOut("off", c.off)
	case order == "reset 1":
		c.interrupt(ctx)
		c.carryOut("reset", func(ctx context.Context) error { return errors.Join(c.off(ctx), c.on(ctx)) })
	case order == "shutdown 1":
		c.carryOut("shutdown", func(ctx context.Context) error { return c.l.Off(ctx, c.host) })
	default:
		return fmt.Errorf("order %q is not known", order)
	}
	return nil
}

// linger waits as long as a slow controller does, or until it gets another
// mode, and returns the mode that it has then.
func (c *chassis) linger(ctx context.Context, b bmcState) (string, error) {
	delay, err := delayOf(b.Mode)
	if err != nil || delay == 0 {
		return b.mode(), err
	}
	now := b
	end := time.Now().Add(delay)
	err = poll(ctx, delay+offLimit, "a slow controller", func() (bool, error) {
		s, err := loadState(c.l.p.Dir)
		if err == nil {
			now = s.BMCs[c.host]
		}
		return now.Mode != b.Mode || now.Lost != b.Lost || !time.Now().Before(end), err
	})
	if err == nil && now.Lost != b.Lost {
		err = errors.New("the controller lost its power")
	}
	return now.mode(), err
}

// interrupt ends the orders so far, but for power-offs.
func (c *chassis) interrupt(ctx context.Context) {
	c.cancel()
	c.orders, c.cancel = context.WithCancel(ctx)
}

// carryOut runs an order after those before it.
func (c *chassis) carryOut(what string, fn func(context.Context) error) {
	ctx, before, after := c.orders, c.done, make(chan struct{})
	c.done = after
	go func() {
		defer close(after)
		<-before
		if err := errors.Join(c.l.p.record(c.host, "bmc", what), fn(ctx)); err != nil {
			c.log.Error("order", "what", what, "err", err)
		}
	}()
}

func (c *chassis) on(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil // a later order took its place
	}
	return c.l.On(ctx, c.host)
}

// off takes the host's power. A later order does not stop it.
func (c *chassis) off(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), offLimit)
	defer cancel()
	err := c.l.Crash(ctx, c.host)
	// Known to a reset by the watchdog, which would power the host on again.
	return errors.Join(err, c.l.change(ctx, func(s *state) error {
		hs := s.Hosts[c.host]
		hs.Orders++
		s.Hosts[c.host] = hs
		return nil
	}))
}
