"""The bar that says what went wrong and what to do about it, without standing in the way."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton


class Notice(QFrame):
    def __init__(self) -> None:
        super().__init__()
        self.text = QLabel(
            textFormat=Qt.TextFormat.PlainText, wordWrap=True
        )  # never markup: it may quote a file's name
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        close = QToolButton()
        close.setText("✕")
        close.setToolTip("Dismiss")
        close.setAutoRaise(True)
        close.clicked.connect(self.hide)
        row = QHBoxLayout(self)
        row.addWidget(self.text)
        row.addWidget(close)
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.ToolTipBase)
        self.text.setForegroundRole(QPalette.ColorRole.ToolTipText)
        self.hide()

    def tell(self, message: str) -> None:
        self.text.setText(message)
        self.setAccessibleName(message)
        self.show()
