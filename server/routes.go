package server

import (
	"attachd/server/api"
	"attachd/store"
)

// row is a route.
type row api.Route

// table is the whole API.
func (s *Server) table() (routes []api.Route) {
	for _, line := range []row{
		// The Attachments API.
		{"GET", "/catalog/spaces/:space/products/:product/attachments", api.May(api.Read, api.Parent(store.Product)), s.files.ListAttachments, api.FileList, api.Unrecorded},
		{"POST", "/catalog/spaces/:space/products/:product/attachments", api.May(api.Upload, api.Parent(store.Product)), s.files.Upload, api.FileUpload, api.InCommit("attachment.upload", "attachment")},
		{"GET", "/catalog/attachments/:attachment/download", api.May(api.Read, api.Attachment(store.Product)), s.files.DownloadOrURL, api.File, api.Reading("attachment.download", "attachment")},
		{"DELETE", "/catalog/attachments/:attachment", api.May(api.Remove, api.Attachment(store.Product)), s.files.DeleteAttachment, api.Document, api.InCommit("attachment.delete", "attachment")},
		{"POST", "/issues/tickets/:ticket/attachments", api.May(api.Upload, api.Parent(store.Ticket)), s.files.Upload, api.FileUpload, api.InCommit("attachment.upload", "attachment")},
		{"GET", "/issues/attachments/:attachment", api.May(api.Read, api.Attachment(store.Ticket)), s.files.Download, api.File, api.Reading("attachment.download", "attachment")},
		{"DELETE", "/issues/attachments/:attachment", api.May(api.Remove, api.Attachment(store.Ticket)), s.files.DeleteAttachment, api.Document, api.InCommit("attachment.delete", "attachment")},

		// Extensions to it.
		{"GET", "/issues/tickets/:ticket/attachments", api.May(api.Read, api.Parent(store.Ticket)), s.files.ListAttachments, api.FileList, api.Unrecorded},
		{"GET", "/meetings/:meeting/attachments", api.May(api.Read, api.Parent(store.Meeting)), s.files.ListAttachments, api.FileList, api.Unrecorded},
		{"POST", "/meetings/:meeting/attachments", api.May(api.Upload, api.Parent(store.Meeting)), s.files.Upload, api.FileUpload, api.InCommit("attachment.upload", "attachment")},
		{"GET", "/meetings/:meeting/attachments/:attachment", api.May(api.Read, api.Attachment(store.Meeting)), s.files.Download, api.File, api.Reading("attachment.download", "attachment")},
		{"DELETE", "/meetings/:meeting/attachments/:attachment", api.May(api.Remove, api.Attachment(store.Meeting)), s.files.DeleteAttachment, api.Document, api.InCommit("attachment.delete", "attachment")},
		{"POST", "/catalog/attachments/:attachment/links", api.May(api.Read, api.Attachment(store.Product)), s.files.CreateLink, api.Document, api.Answered("attachment.link", "attachment")},
		{"POST", "/issues/attachments/:attachment/links", api.May(api.Read, api.Attachment(store.Ticket)), s.files.CreateLink, api.Document, api.Answered("attachment.link", "attachment")},
		{"POST", "/meetings/:meeting/attachments/:attachment/links", api.May(api.Read, api.Attachment(store.Meeting)), s.files.CreateLink, api.Document, api.Answered("attachment.link", "attachment")},
		{"GET", "/catalog/attachments/:attachment/thumbnail", api.May(api.Read, api.Attachment(store.Product)), s.files.Thumbnail, api.File, api.Unrecorded},
		{"GET", "/issues/attachments/:attachment/thumbnail", api.May(api.Read, api.Attachment(store.Ticket)), s.files.Thumbnail, api.File, api.Unrecorded},
		{"GET", "/meetings/:meeting/attachments/:attachment/thumbnail", api.May(api.Read, api.Attachment(store.Meeting)), s.files.Thumbnail, api.File, api.Unrecorded},
		{"GET", "/catalog/attachments/:attachment/preview", api.May(api.Read, api.Attachment(store.Product)), s.files.Preview, api.Document, api.Reading("attachment.preview", "attachment")},
		{"GET", "/issues/attachments/:attachment/preview", api.May(api.Read, api.Attachment(store.Ticket)), s.files.Preview, api.Document, api.Reading("attachment.preview", "attachment")},
		{"GET", "/meetings/:meeting/attachments/:attachment/preview", api.May(api.Read, api.Attachment(store.Meeting)), s.files.Preview, api.Document, api.Reading("attachment.preview", "attachment")},
		{"GET", "/files/:attachment", api.SignedLink, s.files.DownloadLinked, api.LinkedFile, api.Reading("attachment.download", "attachment")},

		// Who is calling.
		{"GET", "/users/me", api.SignedIn, s.corridor.Me, api.Document, api.Unrecorded},
		{"GET", "/limits", api.SignedIn, s.files.Limits, api.Document, api.Unrecorded},
		{"GET", "/faults", api.SignedIn, s.ops.ListFaults, api.Document, api.Unrecorded},
		{"POST", "/session", api.Anyone, s.corridor.CreateSession, api.Document, api.InCommit("session.begin", "session")},
		{"DELETE", "/session", api.Anyone, s.corridor.DeleteSession, api.Document, api.InCommit("session.end", "session")},
		{"GET", "/demo", api.Anyone, s.corridor.DemoUsers, api.Document, api.Unrecorded},
		{"GET", "/api-keys", api.SignedIn, s.directory.ListOwnKeys, api.Document, api.Unrecorded},
		{"POST", "/api-keys", api.SignedIn, s.directory.CreateOwnKey, api.Document, api.InCommit("key.create", "key")},
		{"DELETE", "/api-keys/:key", api.SignedIn, s.directory.DeleteOwnKey, api.Document, api.InCommit("key.revoke", "key")},

		// The directory, written by a system of record or an operator.
		{"POST", "/directory/import", api.Superadmin, s.directory.ImportDirectory, api.Document, api.InCommit("directory.import", "directory")},
		{"GET", "/directory/users", api.Superadmin, s.directory.ListUsers, api.Document, api.Unrecorded},
		{"PUT", "/directory/users/:user", api.Superadmin, s.directory.PutUser, api.Document, api.InCommit("user.put", "user")},
		{"GET", "/directory/users/:user", api.Superadmin, s.directory.GetUser, api.Document, api.Unrecorded},
		{"DELETE", "/directory/users/:user", api.Superadmin, s.directory.DeleteUser, api.Document, api.InCommit("user.delete", "user")},
		{"GET", "/directory/users/:user/api-keys", api.Superadmin, s.directory.ListUserKeys, api.Document, api.Unrecorded},
		{"POST", "/directory/users/:user/api-keys", api.Superadmin, s.directory.CreateUserKey, api.Document, api.InCommit("key.create", "key")},
		{"DELETE", "/directory/users/:user/api-keys/:key", api.Superadmin, s.directory.DeleteUserKey, api.Document, api.InCommit("key.revoke", "key")},
		{"GET", "/directory/spaces", api.SignedIn, s.directory.ListSpaces, api.Document, api.Unrecorded},
		{"PUT", "/directory/spaces/:space", api.Superadmin, s.directory.PutSpace, api.Document, api.InCommit("space.put", "space")},
		{"GET", "/directory/spaces/:space", api.MemberOf(api.InPath), s.directory.GetSpace, api.Document, api.Unrecorded},
		{"DELETE", "/directory/spaces/:space", api.SuperadminOf(api.InPath), s.directory.DeleteSpace, api.Document, api.InCommit("space.delete", "space")},
		{"GET", "/directory/spaces/:space/members", api.SuperadminOf(api.InPath), s.directory.ListMembers, api.Document, api.Unrecorded},
		{"PUT", "/directory/spaces/:space/members/:user", api.SuperadminOf(api.InPath), s.directory.PutMember, api.Document, api.InCommit("member.put", "user")},
		{"GET", "/directory/spaces/:space/members/:user", api.SuperadminOf(api.InPath), s.directory.GetMember, api.Document, api.Unrecorded},
		{"DELETE", "/directory/spaces/:space/members/:user", api.SuperadminOf(api.InPath), s.directory.DeleteMember, api.Document, api.InCommit("member.delete", "user")},
		{"GET", "/directory/spaces/:space/products", api.MemberOf(api.InPath), s.directory.ListEntities(store.Product), api.Document, api.Unrecorded},
		{"PUT", "/directory/spaces/:space/products/:product", api.SuperadminOf(api.InPath), s.directory.PutProduct, api.Document, api.InCommit("product.put", "product")},
		{"GET", "/directory/spaces/:space/products/:product", api.MemberOf(api.Entity(store.Product)), s.directory.GetEntity, api.Document, api.Unrecorded},
		{"DELETE", "/directory/spaces/:space/products/:product", api.SuperadminOf(api.Entity(store.Product)), s.directory.DeleteEntity(store.Product), api.Document, api.InCommit("product.delete", "product")},
		{"GET", "/directory/tickets", api.SignedIn, s.directory.ListEntities(store.Ticket), api.Document, api.Unrecorded},
		{"PUT", "/directory/tickets/:ticket", api.Superadmin, s.directory.PutTicket, api.Document, api.InCommit("ticket.put", "ticket")},
		{"GET", "/directory/tickets/:ticket", api.MemberOf(api.Entity(store.Ticket)), s.directory.GetEntity, api.Document, api.Unrecorded},
		{"DELETE", "/directory/tickets/:ticket", api.SuperadminOf(api.Entity(store.Ticket)), s.directory.DeleteEntity(store.Ticket), api.Document, api.InCommit("ticket.delete", "ticket")},
		{"GET", "/directory/tickets/:ticket/comments", api.MemberOf(api.Entity(store.Ticket)), s.directory.ListComments, api.Document, api.Unrecorded},
		{"PUT", "/directory/tickets/:ticket/comments/:comment", api.SuperadminOf(api.Entity(store.Ticket)), s.directory.PutComment, api.Document, api.InCommit("comment.put", "comment")},
		{"GET", "/directory/tickets/:ticket/comments/:comment", api.MemberOf(api.Entity(store.Ticket)), s.directory.GetComment, api.Document, api.Unrecorded},
		{"DELETE", "/directory/tickets/:ticket/comments/:comment", api.SuperadminOf(api.Entity(store.Ticket)), s.directory.DeleteComment, api.Document, api.InCommit("comment.delete", "comment")},
		{"GET", "/directory/meetings", api.SignedIn, s.directory.ListEntities(store.Meeting), api.Document, api.Unrecorded},
		{"PUT", "/directory/meetings/:meeting", api.Superadmin, s.directory.PutMeeting, api.Document, api.InCommit("meeting.put", "meeting")},
		{"GET", "/directory/meetings/:meeting", api.MemberOf(api.Entity(store.Meeting)), s.directory.GetEntity, api.Document, api.Unrecorded},
		{"DELETE", "/directory/meetings/:meeting", api.SuperadminOf(api.Entity(store.Meeting)), s.directory.DeleteEntity(store.Meeting), api.Document, api.InCommit("meeting.delete", "meeting")},

		// Operations.
		{"GET", "/health", api.Anyone, s.ops.Health, api.Probe, api.Unrecorded},
		{"GET", "/health/ready", api.Anyone, s.ops.HealthReady, api.Probe, api.Unrecorded},
		{"GET", "/metrics", api.Scraper, s.ops.ServeMetrics, api.Probe, api.Unrecorded},
		{"GET", "/stats", api.Superadmin, s.ops.Stats, api.Document, api.Unrecorded},
		{"POST", "/upkeep/check", api.Superadmin, s.ops.Check, api.Document, api.Answered("upkeep.check", "server")},
		{"POST", "/upkeep/gc", api.Superadmin, s.ops.Collect, api.Document, api.Answered("upkeep.gc", "server")},
		{"POST", "/upkeep/audit", api.Superadmin, s.ops.VerifyAudit, api.Document, api.Answered("upkeep.audit", "server")},
		{"GET", "/webhooks", api.Superadmin, s.ops.WebhookState, api.Document, api.Unrecorded},
		{"GET", "/webhooks/dead-letters", api.Superadmin, s.ops.DeadLetters, api.Document, api.Unrecorded},
		{"POST", "/webhooks/redeliver", api.Superadmin, s.ops.Redeliver, api.Document, api.Answered("webhook.redeliver", "server")},
		{"POST", "/webhooks/ping", api.Superadmin, s.ops.PingReceiver, api.Document, api.Answered("webhook.ping", "server")},
		{"GET", "/audit-logs", api.Superadmin, s.ops.AuditLog, api.Document, api.Answered("audit.read", "server")},
		{"GET", "/audit-logs/export", api.Superadmin, s.ops.ExportAudit, api.Document, api.Answered("audit.read", "server")},
		{"POST", "/upkeep/signing-key", api.OperatorOnly, s.ops.RotateSigning, api.Document, api.Answered("signing_key.rotate", "server")},
		{"POST", "/upkeep/compact", api.OperatorOnly, s.ops.Compact, api.Document, api.Answered("upkeep.compact", "server")},
		{"POST", "/upkeep/snapshot", api.OperatorOnly, s.ops.Snapshot, api.Document, api.Answered("upkeep.backup", "server")},
		{"GET", "/upkeep/contents/:content", api.OperatorOnly, s.ops.StoredContent, api.Document, api.Unrecorded},
		{"GET", "/upkeep/status", api.OperatorOnly, s.ops.Status, api.Document, api.Unrecorded},
		{"PUT", "/upkeep/backup", api.OperatorOnly, s.ops.NoteBackup, api.Document, api.Answered("upkeep.backup", "server")},
		{"GET", "/openapi.json", api.Anyone, s.openAPI, api.Document, api.Unrecorded},
		{"GET", "/docs", api.Anyone, s.docs, api.Document, api.Unrecorded},
		{"GET", "/", api.Anyone, s.page, api.Document, api.Unrecorded},
		{"GET", "/assets/:version/:asset", api.Anyone, s.pageAsset, api.Document, api.Unrecorded},
	} {
		routes = append(routes, api.Route(line))
	}
	return routes
}
