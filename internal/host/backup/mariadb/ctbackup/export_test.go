package ctbackup

// CompleteIn is Complete with another directory of the shared file systems.
var CompleteIn = complete
