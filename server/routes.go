package server

import (
	"slices"

	"attachd/server/access"
	"attachd/server/api"
	"attachd/store"
)

// row is a route.
type row api.Route

// table is the whole API.
func (s *Server) table() (routes []api.Route) {
	for _, line := range slices.Concat(s.attachments(), s.callers(), s.objects(), s.operations()) {
		routes = append(routes, api.Route(line))
	}
	return routes
}

// attachments are the routes of files: the Attachments API and its extensions.
func (s *Server) attachments() []row {
	return []row{
		// The Attachments API.
		{"GET", "/catalog/spaces/:space/products/:product/attachments", s.guard.May(access.Read, s.guard.Parent(store.Product)), s.files.ListAttachments, api.FileList, api.Unrecorded},
		{"POST", "/catalog/spaces/:space/products/:product/attachments", s.guard.May(access.Upload, s.guard.Parent(store.Product)), s.files.Upload, api.FileUpload, api.InCommit("attachment.upload", "attachment")},
		{"GET", "/catalog/attachments/:attachment/download", s.guard.May(access.Read, s.guard.Attachment(store.Product)), s.files.DownloadOrURL, api.File, api.Reading("attachment.download", "attachment")},
		{"DELETE", "/catalog/attachments/:attachment", s.guard.May(access.Remove, s.guard.Removable(store.Product)), s.files.DeleteAttachment, api.Document, api.InCommit("attachment.delete", "attachment")},
		{"POST", "/issues/tickets/:ticket/attachments", s.guard.May(access.Upload, s.guard.Parent(store.Ticket)), s.files.Upload, api.FileUpload, api.InCommit("attachment.upload", "attachment")},
		{"GET", "/issues/attachments/:attachment", s.guard.May(access.Read, s.guard.Attachment(store.Ticket)), s.files.Download, api.File, api.Reading("attachment.download", "attachment")},
		{"DELETE", "/issues/attachments/:attachment", s.guard.May(access.Remove, s.guard.Removable(store.Ticket)), s.files.DeleteAttachment, api.Document, api.InCommit("attachment.delete", "attachment")},

		// Extensions to it.
		{"GET", "/issues/tickets/:ticket/attachments", s.guard.May(access.Read, s.guard.Parent(store.Ticket)), s.files.ListAttachments, api.FileList, api.Unrecorded},
		{"GET", "/meetings/:meeting/attachments", s.guard.May(access.Read, s.guard.Parent(store.Meeting)), s.files.ListAttachments, api.FileList, api.Unrecorded},
		{"POST", "/meetings/:meeting/attachments", s.guard.May(access.Upload, s.guard.Parent(store.Meeting)), s.files.Upload, api.FileUpload, api.InCommit("attachment.upload", "attachment")},
		{"GET", "/meetings/:meeting/attachments/:attachment", s.guard.May(access.Read, s.guard.Attachment(store.Meeting)), s.files.Download, api.File, api.Reading("attachment.download", "attachment")},
		{"DELETE", "/meetings/:meeting/attachments/:attachment", s.guard.May(access.Remove, s.guard.Removable(store.Meeting)), s.files.DeleteAttachment, api.Document, api.InCommit("attachment.delete", "attachment")},
		{"POST", "/catalog/attachments/:attachment/links", s.guard.May(access.Read, s.guard.Attachment(store.Product)), s.files.CreateLink, api.Document, api.Answered("attachment.link", "attachment")},
		{"POST", "/issues/attachments/:attachment/links", s.guard.May(access.Read, s.guard.Attachment(store.Ticket)), s.files.CreateLink, api.Document, api.Answered("attachment.link", "attachment")},
		{"POST", "/meetings/:meeting/attachments/:attachment/links", s.guard.May(access.Read, s.guard.Attachment(store.Meeting)), s.files.CreateLink, api.Document, api.Answered("attachment.link", "attachment")},
		{"GET", "/catalog/attachments/:attachment/thumbnail", s.guard.May(access.Read, s.guard.Attachment(store.Product)), s.files.Thumbnail, api.File, api.Unrecorded},
		{"GET", "/issues/attachments/:attachment/thumbnail", s.guard.May(access.Read, s.guard.Attachment(store.Ticket)), s.files.Thumbnail, api.File, api.Unrecorded},
		{"GET", "/meetings/:meeting/attachments/:attachment/thumbnail", s.guard.May(access.Read, s.guard.Attachment(store.Meeting)), s.files.Thumbnail, api.File, api.Unrecorded},
		{"GET", "/catalog/attachments/:attachment/preview", s.guard.May(access.Read, s.guard.Attachment(store.Product)), s.files.Preview, api.Document, api.Reading("attachment.preview", "attachment")},
		{"GET", "/issues/attachments/:attachment/preview", s.guard.May(access.Read, s.guard.Attachment(store.Ticket)), s.files.Preview, api.Document, api.Reading("attachment.preview", "attachment")},
		{"GET", "/meetings/:meeting/attachments/:attachment/preview", s.guard.May(access.Read, s.guard.Attachment(store.Meeting)), s.files.Preview, api.Document, api.Reading("attachment.preview", "attachment")},
		{"GET", "/catalog/spaces/:space/products/:product/attachments.zip", s.guard.May(access.Read, s.guard.Parent(store.Product)), s.files.DownloadArchive, api.File, api.Reading("attachment.download", "attachment")},
		{"POST", "/catalog/spaces/:space/products/:product/attachments.zip", s.guard.May(access.Read, s.guard.Parent(store.Product)), s.files.DownloadSelection, api.File, api.Reading("attachment.download", "attachment")},
		{"GET", "/issues/tickets/:ticket/attachments.zip", s.guard.May(access.Read, s.guard.Parent(store.Ticket)), s.files.DownloadArchive, api.File, api.Reading("attachment.download", "attachment")},
		{"POST", "/issues/tickets/:ticket/attachments.zip", s.guard.May(access.Read, s.guard.Parent(store.Ticket)), s.files.DownloadSelection, api.File, api.Reading("attachment.download", "attachment")},
		{"GET", "/meetings/:meeting/attachments.zip", s.guard.May(access.Read, s.guard.Parent(store.Meeting)), s.files.DownloadArchive, api.File, api.Reading("attachment.download", "attachment")},
		{"POST", "/meetings/:meeting/attachments.zip", s.guard.May(access.Read, s.guard.Parent(store.Meeting)), s.files.DownloadSelection, api.File, api.Reading("attachment.download", "attachment")},
		{"GET", "/catalog/spaces/:space/products/:product/trash", s.guard.May(access.Read, s.guard.Parent(store.Product)), s.files.ListTrash, api.Document, api.Unrecorded},
		{"GET", "/issues/tickets/:ticket/trash", s.guard.May(access.Read, s.guard.Parent(store.Ticket)), s.files.ListTrash, api.Document, api.Unrecorded},
		{"GET", "/meetings/:meeting/trash", s.guard.May(access.Read, s.guard.Parent(store.Meeting)), s.files.ListTrash, api.Document, api.Unrecorded},
		{"POST", "/catalog/attachments/:attachment/restore", s.guard.May(access.Remove, s.guard.Restorable(store.Product)), s.files.RestoreAttachment, api.Document, api.InCommit("attachment.restore", "attachment")},
		{"POST", "/issues/attachments/:attachment/restore", s.guard.May(access.Remove, s.guard.Restorable(store.Ticket)), s.files.RestoreAttachment, api.Document, api.InCommit("attachment.restore", "attachment")},
		{"POST", "/meetings/:meeting/attachments/:attachment/restore", s.guard.May(access.Remove, s.guard.Restorable(store.Meeting)), s.files.RestoreAttachment, api.Document, api.InCommit("attachment.restore", "attachment")},
		{"GET", "/files/:attachment", s.guard.SignedLink, s.files.DownloadLinked, api.LinkedFile, api.Reading("attachment.download", "attachment")},
	}
}

// callers are the routes about the caller: keys, sessions, limits.
func (s *Server) callers() []row {
	return []row{
		{"GET", "/users/me", s.guard.SignedIn, s.guard.Me, api.Document, api.Unrecorded},
		{"GET", "/limits", s.guard.SignedIn, s.files.Limits, api.Document, api.Unrecorded},
		{"GET", "/faults", s.guard.SignedIn, s.ops.ListFaults, api.Document, api.Unrecorded},
		{"POST", "/session", access.Anyone, s.guard.CreateSession, api.Document, api.InCommit("session.begin", "session")},
		{"DELETE", "/session", access.Anyone, s.guard.DeleteSession, api.Document, api.InCommit("session.end", "session")},
		{"GET", "/demo", access.Anyone, s.guard.DemoUsers, api.Document, api.Unrecorded},
		{"GET", "/api-keys", s.guard.SignedIn, s.directory.ListOwnKeys, api.Document, api.Unrecorded},
		{"POST", "/api-keys", s.guard.SignedIn, s.directory.CreateOwnKey, api.Document, api.InCommit("key.create", "key")},
		{"DELETE", "/api-keys/:key", s.guard.SignedIn, s.directory.DeleteOwnKey, api.Document, api.InCommit("key.revoke", "key")},
	}
}

// objects are the routes of the directory, which a system of record or an operator writes.
func (s *Server) objects() []row {
	return []row{
		{"POST", "/directory/import", s.guard.Superadmin, s.directory.ImportDirectory, api.Document, api.InCommit("directory.import", "directory")},
		{"GET", "/directory/users", s.guard.Superadmin, s.directory.ListUsers, api.Document, api.Unrecorded},
		{"PUT", "/directory/users/:user", s.guard.Superadmin, s.directory.PutUser, api.Document, api.InCommit("user.put", "user")},
		{"GET", "/directory/users/:user", s.guard.Superadmin, s.directory.GetUser, api.Document, api.Unrecorded},
		{"DELETE", "/directory/users/:user", s.guard.Superadmin, s.directory.DeleteUser, api.Document, api.InCommit("user.delete", "user")},
		{"GET", "/directory/users/:user/api-keys", s.guard.Superadmin, s.directory.ListUserKeys, api.Document, api.Unrecorded},
		{"POST", "/directory/users/:user/api-keys", s.guard.Superadmin, s.directory.CreateUserKey, api.Document, api.InCommit("key.create", "key")},
		{"DELETE", "/directory/users/:user/api-keys/:key", s.guard.Superadmin, s.directory.DeleteUserKey, api.Document, api.InCommit("key.revoke", "key")},
		{"GET", "/directory/spaces", s.guard.SignedIn, s.directory.ListSpaces, api.Document, api.Unrecorded},
		{"PUT", "/directory/spaces/:space", s.guard.Superadmin, s.directory.PutSpace, api.Document, api.InCommit("space.put", "space")},
		{"GET", "/directory/spaces/:space", s.guard.MemberOf(s.guard.InPath), s.directory.GetSpace, api.Document, api.Unrecorded},
		{"DELETE", "/directory/spaces/:space", s.guard.SuperadminOf(s.guard.RemovableSpace()), s.directory.DeleteSpace, api.Document, api.InCommit("space.delete", "space")},
		{"POST", "/directory/spaces/:space/restore", s.guard.Superadmin, s.directory.RestoreSpace, api.Document, api.InCommit("space.restore", "space")},
		{"GET", "/directory/spaces/:space/trash", s.guard.May(access.Administer, s.guard.InPath), s.directory.ListTrash, api.Document, api.Unrecorded},
		{"GET", "/directory/trash", s.guard.Superadmin, s.directory.ListTrash, api.Document, api.Unrecorded},
		{"GET", "/directory/spaces/:space/members", s.guard.SuperadminOf(s.guard.InPath), s.directory.ListMembers, api.Document, api.Unrecorded},
		{"PUT", "/directory/spaces/:space/members/:user", s.guard.SuperadminOf(s.guard.InPath), s.directory.PutMember, api.Document, api.InCommit("member.put", "user")},
		{"GET", "/directory/spaces/:space/members/:user", s.guard.SuperadminOf(s.guard.InPath), s.directory.GetMember, api.Document, api.Unrecorded},
		{"DELETE", "/directory/spaces/:space/members/:user", s.guard.SuperadminOf(s.guard.InPath), s.directory.DeleteMember, api.Document, api.InCommit("member.delete", "user")},
		{"GET", "/directory/spaces/:space/products", s.guard.MemberOf(s.guard.InPath), s.directory.ListEntities(store.Product), api.Document, api.Unrecorded},
		{"PUT", "/directory/spaces/:space/products/:product", s.guard.SuperadminOf(s.guard.InPath), s.directory.PutProduct, api.Document, api.InCommit("product.put", "product")},
		{"GET", "/directory/spaces/:space/products/:product", s.guard.MemberOf(s.guard.Entity(store.Product)), s.directory.GetEntity, api.Document, api.Unrecorded},
		{"DELETE", "/directory/spaces/:space/products/:product", s.guard.SuperadminOf(s.guard.RemovableEntity(store.Product)), s.directory.DeleteEntity(store.Product), api.Document, api.InCommit("product.delete", "product")},
		{"POST", "/directory/spaces/:space/products/:product/restore", s.guard.Superadmin, s.directory.RestoreEntity(store.Product), api.Document, api.InCommit("product.restore", "product")},
		{"GET", "/directory/tickets", s.guard.SignedIn, s.directory.ListEntities(store.Ticket), api.Document, api.Unrecorded},
		{"PUT", "/directory/tickets/:ticket", s.guard.Superadmin, s.directory.PutTicket, api.Document, api.InCommit("ticket.put", "ticket")},
		{"GET", "/directory/tickets/:ticket", s.guard.MemberOf(s.guard.Entity(store.Ticket)), s.directory.GetEntity, api.Document, api.Unrecorded},
		{"DELETE", "/directory/tickets/:ticket", s.guard.SuperadminOf(s.guard.RemovableEntity(store.Ticket)), s.directory.DeleteEntity(store.Ticket), api.Document, api.InCommit("ticket.delete", "ticket")},
		{"POST", "/directory/tickets/:ticket/restore", s.guard.Superadmin, s.directory.RestoreEntity(store.Ticket), api.Document, api.InCommit("ticket.restore", "ticket")},
		{"GET", "/directory/tickets/:ticket/comments", s.guard.MemberOf(s.guard.Entity(store.Ticket)), s.directory.ListComments, api.Document, api.Unrecorded},
		{"PUT", "/directory/tickets/:ticket/comments/:comment", s.guard.SuperadminOf(s.guard.Entity(store.Ticket)), s.directory.PutComment, api.Document, api.InCommit("comment.put", "comment")},
		{"GET", "/directory/tickets/:ticket/comments/:comment", s.guard.MemberOf(s.guard.Entity(store.Ticket)), s.directory.GetComment, api.Document, api.Unrecorded},
		{"DELETE", "/directory/tickets/:ticket/comments/:comment", s.guard.SuperadminOf(s.guard.Entity(store.Ticket)), s.directory.DeleteComment, api.Document, api.InCommit("comment.delete", "comment")},
		{"GET", "/directory/meetings", s.guard.SignedIn, s.directory.ListEntities(store.Meeting), api.Document, api.Unrecorded},
		{"PUT", "/directory/meetings/:meeting", s.guard.Superadmin, s.directory.PutMeeting, api.Document, api.InCommit("meeting.put", "meeting")},
		{"GET", "/directory/meetings/:meeting", s.guard.MemberOf(s.guard.Entity(store.Meeting)), s.directory.GetEntity, api.Document, api.Unrecorded},
		{"DELETE", "/directory/meetings/:meeting", s.guard.SuperadminOf(s.guard.RemovableEntity(store.Meeting)), s.directory.DeleteEntity(store.Meeting), api.Document, api.InCommit("meeting.delete", "meeting")},
		{"POST", "/directory/meetings/:meeting/restore", s.guard.Superadmin, s.directory.RestoreEntity(store.Meeting), api.Document, api.InCommit("meeting.restore", "meeting")},

		{"GET", "/holds", s.guard.RecordsManager, s.directory.ListHolds, api.Document, api.Unrecorded},
		{"POST", "/holds", s.guard.RecordsManager, s.directory.SetHold, api.Document, api.InCommit("hold.set", "hold")},
		{"GET", "/holds/:hold", s.guard.RecordsManager, s.directory.GetHold, api.Document, api.Unrecorded},
		{"DELETE", "/holds/:hold", s.guard.RecordsManager, s.directory.LiftHold, api.Document, api.InCommit("hold.lift", "hold")},
	}
}

// operations are the routes of operators, and the documents.
func (s *Server) operations() []row {
	return []row{
		{"GET", "/health", access.Anyone, s.ops.Health, api.Probe, api.Unrecorded},
		{"GET", "/health/ready", access.Anyone, s.ops.HealthReady, api.Probe, api.Unrecorded},
		{"GET", "/metrics", s.guard.Scraper, s.ops.ServeMetrics, api.Probe, api.Unrecorded},
		{"GET", "/stats", s.guard.Superadmin, s.ops.Stats, api.Document, api.Unrecorded},
		{"POST", "/upkeep/check", s.guard.Superadmin, s.ops.Check, api.Document, api.Answered("upkeep.check", "server")},
		{"POST", "/upkeep/gc", s.guard.Superadmin, s.ops.Collect, api.Document, api.Answered("upkeep.gc", "server")},
		{"POST", "/upkeep/audit", s.guard.Superadmin, s.ops.VerifyAudit, api.Document, api.Answered("upkeep.audit", "server")},
		{"GET", "/webhooks", s.guard.Superadmin, s.ops.WebhookState, api.Document, api.Unrecorded},
		{"GET", "/webhooks/dead-letters", s.guard.Superadmin, s.ops.DeadLetters, api.Document, api.Unrecorded},
		{"POST", "/webhooks/redeliver", s.guard.Superadmin, s.ops.Redeliver, api.Document, api.Answered("webhook.redeliver", "server")},
		{"POST", "/webhooks/ping", s.guard.Superadmin, s.ops.PingReceiver, api.Document, api.Answered("webhook.ping", "server")},
		{"GET", "/audit-logs", s.guard.Superadmin, s.ops.AuditLog, api.Document, api.Answered("audit.read", "server")},
		{"GET", "/audit-logs/export", s.guard.Superadmin, s.ops.ExportAudit, api.Document, api.Answered("audit.read", "server")},
		{"POST", "/upkeep/signing-key", s.guard.OperatorOnly, s.ops.RotateSigning, api.Document, api.Answered("signing_key.rotate", "server")},
		{"POST", "/upkeep/compact", s.guard.OperatorOnly, s.ops.Compact, api.Document, api.Answered("upkeep.compact", "server")},
		{"POST", "/upkeep/migrate", s.guard.OperatorOnly, s.ops.Migrate, api.Document, api.Answered("upkeep.migrate", "server")},
		{"POST", "/upkeep/snapshot", s.guard.OperatorOnly, s.ops.Snapshot, api.Document, api.Answered("upkeep.backup", "server")},
		{"GET", "/upkeep/contents/:content", s.guard.OperatorOnly, s.ops.StoredContent, api.Document, api.Unrecorded},
		{"GET", "/upkeep/status", s.guard.OperatorOnly, s.ops.Status, api.Document, api.Unrecorded},
		{"PUT", "/upkeep/backup", s.guard.OperatorOnly, s.ops.NoteBackup, api.Document, api.Answered("upkeep.backup", "server")},
		{"GET", "/openapi.json", access.Anyone, s.openAPI, api.Document, api.Unrecorded},
		{"GET", "/openapi-3.0.json", access.Anyone, s.openAPI30, api.Document, api.Unrecorded},
		{"GET", "/docs", access.Anyone, s.docs, api.Document, api.Unrecorded},
		{"GET", "/manual", access.Anyone, s.manual, api.Document, api.Unrecorded},
		{"GET", "/manual/:page", access.Anyone, s.manual, api.Document, api.Unrecorded},
		{"GET", "/", access.Anyone, s.page, api.Document, api.Unrecorded},
		{"GET", "/assets/:version/:asset", access.Anyone, s.pageAsset, api.Document, api.Unrecorded},
	}
}
