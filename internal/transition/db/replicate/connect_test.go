package replicate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// certificate makes a key and a certificate for 127.0.0.1, and the options that name them.
func certificate(t *testing.T) (opt []string, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: cert}, "key": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(dir, "cert")
	return []string{"--ssl-cert=" + file, "--ssl-key=" + filepath.Join(dir, "key"), "--ssl-ca=" + file}, file
}

// TestWaysToTheLog: the log is read the way the server is reached otherwise.
func TestWaysToTheLog(t *testing.T) {
	need.More(t)
	opt, ca := certificate(t)
	w := newWorld(t, false, opt...)
	w.src.SQL("CREATE USER secure@'%' IDENTIFIED BY 'x' REQUIRE SSL; GRANT ALL ON *.* TO secure@'%'")
	tcp := fmt.Sprintf("secure:x@tcp(localhost:%d)/?", w.src.Port())
	plain := fmt.Sprintf("%s:%s@", aligntest.User, aligntest.Password)
	for _, dsn := range []string{
		tcp + "tls=true&tls-ca=" + url.QueryEscape(ca),
		tcp + "tls=skip-verify",
		tcp + "tls=preferred",
		plain + "unix(" + w.src.Socket() + ")/",
	} {
		s, err := server.Open(t.Context(), "source", dsn, server.Options{})
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
			continue
		}
		if err := Ready(t.Context(), s, w.plan); err != nil {
			t.Errorf("%s: %v", dsn, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	// "preferred" is without where the server has none.
	s, err := server.Open(t.Context(), "source", w.dst.DSN()+"?tls=preferred", server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if c, err := encrypted(t.Context(), s); c != nil || err != nil {
		t.Error(c, err)
	}
}

// TestNoConnectionOfOthersIsKilled: the log's connection is ended by closing it, never by
// its number.
func TestNoConnectionOfOthersIsKilled(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	at, err := now(t.Context(), w.source)
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), w.source, at, w.none)
	if err != nil {
		t.Fatal(err)
	}
	w.src.SQL("SET GLOBAL general_log = 1, log_output = 'TABLE'")
	s.close()
	w.src.SQL("SET GLOBAL general_log = 0")
	if got := w.src.SQL("SELECT argument FROM mysql.general_log"); strings.Contains(strings.ToUpper(got), "KILL") {
		t.Error(got)
	}
}

func (w *world) none(string, string) bool { return false }

// deaf is a replica that takes events and never says so.
type deaf struct{ ctx context.Context }

func (d deaf) HandleEvent(e *replication.BinlogEvent) error {
	if _, ok := e.Event.(*replication.XIDEvent); ok {
		<-d.ctx.Done()
	}
	return nil
}

// TestCommitsThatComeLate: the source waits for a replica between its log and its
// tables. What the log told of is not to be seen for that long.
func TestCommitsThatComeLate(t *testing.T) {
	need.More(t)
	w := newWorld(t, false, "--rpl-semi-sync-master-enabled=1", "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
		"--rpl-semi-sync-master-timeout=2000")
	w.src.SQL(firstRows)
	w.copy()
	from := w.state()
	ctx, cancel := context.WithCancel(t.Context())
	replica := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{ServerID: 4711, Flavor: gomysql.MariaDBFlavor,
		Host: "127.0.0.1", Port: uint16(w.src.Port()),
		User: aligntest.User, Password: aligntest.Password, Logger: slog.New(slog.DiscardHandler),
		DisableRetrySync: true, SemiSyncEnabled: true, SynchronousEventHandler: deaf{ctx}})
	defer replica.Close()
	defer cancel()
	if _, err := replica.StartSync(gomysql.Position{Name: from.File, Pos: uint32(from.Pos)}); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(30 * time.Second)
	const clients = "Rpl_semi_sync_master_clients"
	for ; w.src.SQL("SHOW STATUS LIKE '"+clients+"'") != clients+"\t1"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the replica is not there")
		}
	}
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := w.follow(Options{Stop: stop})
		ended <- err
	}()
	begun := time.Now()
	w.src.SQL("USE old_nova; UPDATE instances SET name = 'late'")
	if took := time.Since(begun); took < time.Second {
		t.Errorf("the commit took %v: nothing is tested", took)
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	w.equal()
}
