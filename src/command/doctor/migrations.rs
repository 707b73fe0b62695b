//! Whether the schema is the one of this binary. Nothing is run.

use super::Finding;
use crate::store::diagnosis::{Applied, Server};
use crate::store::migrator;

/// Compares what was applied with what this binary has.
pub(super) fn compare(applied: &[Applied], server: &Server) -> Vec<Finding> {
    let migrator = migrator();
    let mut findings = Vec::new();
    let (mut pending, mut known) = (Vec::new(), 0);
    for migration in migrator.iter() {
        let name = format!("{:04} ({})", migration.version, migration.description);
        match applied.iter().find(|applied| applied.version == migration.version) {
            None => pending.push(name),
            Some(applied) if !applied.success => findings.push(Finding::problem(
                format!("migration {name} was begun and not finished"),
                format!(
                    "No version of the service starts on this. Restore the backup from before it; or see \
                     in migrations/ what it does, undo what is there of it, and `delete from \
                     _sqlx_migrations where version = {}`, so that the next start runs it anew.",
                    migration.version
                ),
            )),
            Some(applied) if applied.checksum != *migration.checksum => {
                findings.push(Finding::problem(
                    format!("migration {name} was applied with another text than this binary has"),
                    "The service does not start on this: the file was changed after it was applied, or \
                     the database belongs to another build. Run the build that made it, or lead \
                     DATABASE_URL to the right database.",
                ));
            }
            Some(_) => known += 1,
        }
    }
    if !pending.is_empty() {
        findings.push(Finding::warning(
            format!("migrations are pending: {}", pending.join(", ")),
            "The next start of the service applies them, and so does `portcullis migrate`.",
        ));
        if !server.may_create {
            let (role, database) = ("the role of DATABASE_URL", "its database");
            findings.push(match &server.schema {
                Some(schema) => Finding::problem(
                    format!("{role} may not create tables in the schema {schema}"),
                    format!(
                        "The migrations will fail. Since PostgreSQL 15, only the owner of a database may create \
                         tables. Make the role the owner of {database} (`alter database … owner to …`), give it a \
                         schema of its own (`create schema authorization …`), or run `grant create on schema \
                         {schema} to …`."
                    ),
                ),
                None => Finding::problem(
                    format!("no schema of the search path exists for {role}"),
                    "The migrations will fail. Create a schema for the role (`create schema authorization …`), or \
                     correct its search_path.",
                ),
            });
        }
    }
    let newer: Vec<_> = applied
        .iter()
        .filter(|applied| !migrator.version_exists(applied.version))
        .map(|applied| format!("{:04} ({})", applied.version, applied.description))
        .collect();
    if !newer.is_empty() {
        findings.push(Finding::note(
            format!("the database has migrations that this binary does not know: {}", newer.join(", ")),
            "A newer version has been here. Within a release that does no harm, but this one should be \
             updated too.",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("the schema is up to date: {known} migrations")));
    }
    findings
}
