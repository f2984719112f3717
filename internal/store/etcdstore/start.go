package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// halt takes the place of etcd's way to end the process, or a goroutine, after a
// fatal entry in its log. The goroutine that wrote the entry stops there for good,
// so nothing goes on from a state that etcd found impossible; the process is to
// end as soon as C delivers.
type halt struct{ c chan error }

func newHalt() *halt { return &halt{make(chan error, 1)} }

// OnWrite implements zapcore.CheckWriteHook.
func (h *halt) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	select {
	case h.c <- err:
	default: // the first one is what counts
	}
	select {}
}

// logger builds etcd's log as etcd would, but for its fatal entries.
func (h *halt) logger(c MemberConfig) func(*embed.Config) error {
	return func(cfg *embed.Config) error {
		conf := logutil.DefaultZapLoggerConfig
		conf.Level = zap.NewAtomicLevelAt(logutil.ConvertToZapLevel(c.LogLevel))
		out := embed.StdErrLogOutput
		if c.LogFile != "" {
			out = "rotate:/%2F" + c.LogFile[1:] // etcd registers the scheme, with logLimits
		}
		conf.OutputPaths, conf.ErrorOutputPaths = []string{out}, []string{out}
		lg, err := conf.Build(zap.WithFatalHook(h), zap.WithPanicHook(h))
		if err != nil {
			return fmt.Errorf("open log of the store member: %w", err)
		}
		return embed.NewZapLoggerBuilder(lg)(cfg)
	}
}

// begin starts etcd on data that have been checked. When ctx ends meanwhile the
// start is waited for within stopTime, and undone.
func begin(ctx context.Context, c MemberConfig, cfg *embed.Config, h *halt) (*embed.Etcd, error) {
	cfg.ZapLoggerBuilder = h.logger(c)
	type started struct {
		etcd *embed.Etcd
		err  error
	}
	done := make(chan started, 1)
	go func() { // ends with the start, or, after a fatal entry, with the process
		defer func() {
			if r := recover(); r != nil {
				done <- started{err: corrupt(c.DataDir, fmt.Errorf("etcd panicked at its start: %v", r))}
			}
		}()
		e, err := embed.StartEtcd(cfg)
		done <- started{e, err}
	}()
	over := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case s := <-done:
			if s.err != nil {
				return nil, fmt.Errorf("start: %w", named(c.DataDir, s.err))
			}
			return s.etcd, nil
		case err := <-h.c:
			return nil, fmt.Errorf("start: %w", named(c.DataDir, err))
		case <-over:
			t := time.NewTimer(stopTime)
			defer t.Stop()
			over, late = nil, t.C
		case <-late:
			return nil, fmt.Errorf("%w (%s), it was starting", ErrNotStopped, stopTime)
		}
	}
}

// named adds our name to an error of etcd that has one.
func named(dir string, err error) error {
	if !errors.Is(err, unix.EADDRINUSE) {
		return diagnose(dir, err)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return fmt.Errorf("%w: %s: %w", ErrAddressInUse, op.Addr, err)
	}
	return fmt.Errorf("%w: %w", ErrAddressInUse, err)
}
