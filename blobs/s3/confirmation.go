package s3

import "strings"

// confirmations are what is known of the 200 of stores, by the beginning of the Server
// header, in lower case.
var confirmations = []struct {
	server, name string
	means        string // empty where it is not known
	lasting      bool   // a confirmed object survives a power cut of the machines that have it
}{
	{"amazons3", "Amazon S3", "a confirmed file is on several devices in at least three zones, in one zone for classes of one zone", true},
	{"uploadserver", "Google Cloud Storage", "a confirmed file is on stable storage in more than one zone", true},
	{"ceph", "Ceph", "a confirmed file is on stable storage of as many machines as the pool's min_size asks for", true},
	{"minio", "MinIO", "it writes past the memory of the system and syncs, on Linux with a file system such as XFS", true},
	{"garage", "Garage", "it does not sync unless data_fsync is on: after a power cut of all machines that have a file, the last ones may be gone", false},
	{"seaweedfs", "SeaweedFS", "it does not sync unless it is told to: after a power cut of all machines that have a file, the last ones may be gone", false},
	{"versitygw", "versitygw", "over a plain file system it does not sync: after a power cut the last files may be gone", false},
	{"cloudflare", "Cloudflare, perhaps in front of R2", "", false},
	{"wasabis3", "Wasabi", "", false},
}

// Confirmation says what is known of a store's confirmation that it has an object: the name
// of the store with that Server header, what a 200 of it means, or nothing where that is not
// known, and whether the object survives a power cut then.
func Confirmation(server string) (name, means string, lasting bool) {
	for _, c := range confirmations {
		if strings.HasPrefix(strings.ToLower(server), c.server) {
			return c.name, c.means, c.lasting
		}
	}
	return server, "", false
}
