package group

import (
	"fmt"

	"holdfast/internal/host/replica"
	"holdfast/internal/host/replica/mariadb"
)

// strays reports that somebody has written to this standby, and keeps what is told of it until it follows again.
func (d *Database) strays(st replica.Status, wrote bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	is := len(st.Stray) > 0 && !wrote
	switch {
	case is:
		d.stray = fmt.Sprintf("%s; they are saved in a file in %s, and the database is copied anew", mariadb.Stray(st.Stray), d.SaveDir)
	case wrote || st.Role == replica.Replica:
		d.stray = ""
	}
	return is
}
