"""An app's database on Convex, as its snapshot export has it."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

Document = dict[str, object]
FIRST_MOMENT = 1_700_000_000_000.0


@dataclass
class ConvexApp:
    """The tables of the app that Inglenook was first made for."""

    users: list[Document] = field(default_factory=list)
    sessions: list[Document] = field(default_factory=list)
    messages: list[Document] = field(default_factory=list)

    def user(self, subject: str) -> str:
        return self._add(self.users, clerkId=subject, email=f"{subject}@example.com")

    def session(self, user: str, title: str = "A talk", **more: object) -> str:
        values = {"userId": user, "title": title, "status": "active", "messageCount": 0.0}
        return self._add(self.sessions, **values | more)

    def message(self, session: str, content: str, **more: object) -> str:
        values: Document = {"sessionId": session, "role": "user", "content": content}
        return self._add(self.messages, **values | more)

    def unpacked(self, folder: Path) -> Path:
        """The export as a folder."""
        for table, lines in self._files().items():
            (folder / table).mkdir(parents=True)
            (folder / table / "documents.jsonl").write_text(lines)
        return folder

    def zipped(self, file: Path) -> Path:
        """The export as a ZIP file."""
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for table, lines in self._files().items():
                archive.writestr(f"{table}/documents.jsonl", lines)
        return file

    def _add(self, table: list[Document], **fields: object) -> str:
        number = len(self.users) + len(self.sessions) + len(self.messages)
        convex_id = f"j57{number:029}"
        created: Document = {"_id": convex_id, "_creationTime": FIRST_MOMENT + number}
        table.append(created | fields)
        return convex_id

    def _files(self) -> dict[str, str]:
        tables = {"users": self.users, "sessions": self.sessions, "messages": self.messages}
        return {
            table: "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in rows)
            for table, rows in tables.items()
        }
