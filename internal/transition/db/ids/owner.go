package ids

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"holdfast/internal/transition/db/server"
)

// ownerTable is the table, of one row, that says for which copy the IDs are staged.
const ownerTable = "owner"

// ErrOwner is that the source's staged IDs are of another copy.
var ErrOwner = errors.New("the IDs that are staged on the source are of another copy")

// Owned looks whether the staged IDs are those of a copy to target, a text such as
// HOST:PORT, or HOST:PORT, a comma and more; or of none. Other copies of the same source
// look into the same tables: two at a time would write each other's IDs.
func Owned(ctx context.Context, source *server.Server, target string) error {
	is, err := owner(ctx, source)
	if err == nil && is != "" && is != target {
		err = fmt.Errorf("%w, to %s, and this one is to %s: end that one first, by `holdfast transition db clean` "+
			"with its --target", ErrOwner, is, target)
	}
	return err
}

// OwnedAt looks whether the staged IDs are those of a copy to the server HOST:PORT,
// whatever stands behind it in the text that Claim was given; or of none.
func OwnedAt(ctx context.Context, source *server.Server, at string) error {
	is, err := owner(ctx, source)
	if host, _, _ := strings.Cut(is, ","); err == nil && is != "" && host != at {
		err = fmt.Errorf("%w, to %s, and this target is %s", ErrOwner, is, at)
	}
	return err
}

// owner is the target of the copy whose IDs are staged, "" when there is none.
func owner(ctx context.Context, source *server.Server) (string, error) {
	var is string
	err := source.DB.QueryRowContext(ctx, "SELECT `target` FROM "+named(ownerTable)+" WHERE `only` = 1").Scan(&is)
	switch {
	case errors.Is(err, sql.ErrNoRows), server.Absent(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("%s: whose the staged IDs are: %w", source.Role, err)
	}
	return is, nil
}

// Claim says that the IDs that are staged from now on are those of a copy to target. Who
// calls it holds the source's lock.
func Claim(ctx context.Context, source *server.Server, target string) error {
	if err := Owned(ctx, source, target); err != nil {
		return err
	}
	for _, s := range []string{
		"CREATE DATABASE IF NOT EXISTS " + Database + " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
		"CREATE TABLE IF NOT EXISTS " + named(ownerTable) + " (`only` TINYINT NOT NULL PRIMARY KEY, `target` " +
			"VARCHAR(700) NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
	} {
		if _, err := source.DB.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: say whose the staged IDs are: %w", source.Role, err)
		}
	}
	if _, err := source.DB.ExecContext(ctx, "INSERT INTO "+
		named(ownerTable)+" VALUES (1, ?) ON DUPLICATE KEY UPDATE `target` = VALUES(`target`)", target); err != nil {
		return fmt.Errorf("%s: say whose the staged IDs are: %w", source.Role, err)
	}
	return nil
}
