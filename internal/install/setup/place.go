package setup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/survey"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
)

// Place gives the other node the secrets, and installs on all hosts what is missing. Here is the name of this node. O says
// what every host gets, and who is told; configuration and connections are filled in.
func Place(ctx context.Context, here string, so survey.Options, n *Note, o install.Options) (install.Result, error) {
	if err := shareSecrets(ctx, so, n); err != nil {
		return install.Result{}, err
	}
	o.Connect = func(ctx context.Context, h install.Host) (install.Conn, error) {
		if h.Name == here {
			return so.Here()
		}
		return so.Connect(ctx, h.Addr, n.Config.Pair.Peer(h.Name) == "")
	}
	return install.Install(ctx, o, false)
}

// NotReached says what to do about a host to which there is no connection.
func NotReached(addr string, err error) error {
	return fail.Errorf(fail.Failed, "%s: %w", addr, err).With(install.RemedyOf(err))
}

// secretsOf are the files with what both nodes keep secret, and what it is.
func secretsOf(p config.Pair) map[string]string {
	if d := p.Device; d != nil {
		if d.Credential == "" {
			return nil
		}
		return map[string]string{d.SecretFile(): "the secret of the DRBD device"}
	}
	out := map[string]string{}
	for _, a := range []config.PairAccount{p.Database.Admin, p.Database.Replication} {
		out[a.File()] = "the password of the database account " + a.User
	}
	return out
}

// shareSecrets makes the secrets that are missing, and gives them to the other node.
func shareSecrets(ctx context.Context, so survey.Options, note *Note) error {
	var shared []install.File
	all := secretsOf(*note.Config.Pair)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		secret, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			secret = []byte(rand.Text() + "\n")
			if err = durable.MakeDirs(filepath.Dir(path), 0o755); err == nil {
				err = durable.WriteFile(path, secret, 0o600)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", all[path], err)
		}
		shared = append(shared, install.File{Path: path, Mode: 0o600, Data: secret})
	}
	if len(shared) == 0 {
		return nil
	}
	c, err := so.Connect(ctx, note.Peer, false)
	if err != nil {
		return NotReached(note.Peer, err)
	}
	for _, r := range []install.Request{{Do: install.DoPlace, Files: shared}, {Do: install.DoKeep}} {
		if err == nil {
			_, err = c.Ask(ctx, r)
		}
	}
	return errors.Join(err, c.Close())
}
