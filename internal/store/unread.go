package store

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Bounds of what is said of records that can not be read.
const (
	unreadAgain = time.Hour // of the same writer and folder, it is said again after
	unreadMost  = 1000      // writers and folders that are remembered
)

// Unread tells of records that can not be read and are left out. Whoever may write few records, with wrong forms, must
// neither keep others from reading theirs nor fill the log: of one writer and folder (what a key begins with, up to its first
// slash) it tells once an hour.
// The zero value is ready. Its methods may be called concurrently.
type Unread struct {
	mu   sync.Mutex
	told map[string]time.Time
}

// Tell logs a record, who may write it (a host; "": not known), and why it is left out.
func (u *Unread) Tell(log *slog.Logger, key, writer string, why error) {
	folder, _, _ := strings.Cut(key, "/")
	id, now := writer+" "+folder, time.Now()
	u.mu.Lock()
	at, told := u.told[id]
	if told = told && now.Sub(at) < unreadAgain; !told {
		if u.told == nil || len(u.told) >= unreadMost {
			u.told = map[string]time.Time{}
		}
		u.told[id] = now
	}
	u.mu.Unlock()
	if !told {
		log.Warn("a record that can not be read is left out", "key", key, "writer", writer, "err", why)
	}
}
